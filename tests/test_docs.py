"""Pages that scripts make are up to date, every field on disk is documented, and links between pages lead somewhere.

Nothing here needs mkdocs: `make docs` checks the site itself.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from iit_bench.errors import UserError
from tests import made_cells

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
LINK = re.compile(r"\[(?:[^\[\]]|`[^`]*`|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
MADE = "run `python docs/{}.py`"


def script(name: str) -> ModuleType:
    """A script of docs/, imported: it is no package."""
    if str(DOCS) not in sys.path:
        sys.path.insert(0, str(DOCS))
    return importlib.import_module(name)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
def test_the_page_of_tasks_is_what_its_script_makes():
    made = script("make_tasks").page()
    assert made == (DOCS / "tasks.md").read_text(encoding="utf-8"), MADE.format("make_tasks")


def test_the_page_of_families_is_what_its_script_makes():
    made = script("make_families").page()
    assert made == (DOCS / "families.md").read_text(encoding="utf-8"), MADE.format("make_families")


def test_the_page_of_the_experiment_is_what_its_script_makes():
    made = script("make_lab").page()
    assert made == (DOCS / "lab.md").read_text(encoding="utf-8"), MADE.format("make_lab")


@pytest.mark.slow
def test_the_figures_of_the_experiment_are_what_its_script_makes():
    """The same bytes with the matplotlib that made them; with another, figures of the same names."""
    make_lab = script("make_lab")
    made = make_lab.figures(make_lab.findings(make_lab.load(make_lab.CELLS)))
    assert {path.name for path in make_lab.FIGURES.iterdir()} == set(made), MADE.format("make_lab")
    if f"matplotlib=={importlib.metadata.version('matplotlib')}" in (ROOT / "constraints.txt").read_text().split():
        drawn = {name: make_lab.figure_files.as_svg(plot) for name, (plot, _) in made.items()}
        assert all((make_lab.FIGURES / name).read_bytes() == svg for name, svg in drawn.items()), MADE.format("make_lab")
    assert sum(path.stat().st_size for path in make_lab.FIGURES.iterdir()) < 500_000


def test_the_section_of_another_llm_has_its_own_verdicts_seeds_and_missing_cells(tmp_path: Path):
    section, rate = script("make_lab").smol_section, made_cells.KNOWN["full"][2e-4]
    made_cells.write(tmp_path / "smol", {name: {1e-4: rate} for name in ("full", "wings")}, seeds=(0, 1), n=20)
    text = section(tmp_path / "smol")
    assert "Seeds so far: full tuning 2, Wings 2." in text and "\n### The paper's claims" in text and "\n## The" not in text
    assert " full tuning 1 of 3 (1e-4);" in text.partition("- Missing, of ")[2].partition("\n")[0]
    made_cells.write(tmp_path / "base", {}, n=10)
    assert "No method is trained yet. The base LLM answers T " in section(tmp_path / "base")
    assert "Not run: there are no cells of it." in section(tmp_path / "none")


def test_the_page_of_the_experiment_has_a_verdict_on_every_claim_and_names_missing_cells(tmp_path: Path):
    made_cells.write(tmp_path, n=30, peak_memory=912_000_000)
    missing = re.compile(r"\n- Missing, of \d+ planned cells: .*; Wings (\d+) of 30 \(")
    before = missing.search(script("make_lab").page(tmp_path))
    for file in tmp_path.glob("wings-2e-4-1.*"):
        file.unlink()
    page = script("make_lab").page(tmp_path)
    claims = page.partition("## The paper's claims")[2].partition("\n## ")[0]
    verdicts = ("**held**", "**did not hold**", "**cannot be told**")
    assert sum(claims.count(one) for one in verdicts) == 5
    after = missing.search(page)
    assert "| peak of the process, MB |" in page and "| 912 |" in page.partition("\n## Cost")[2]
    assert before and after and int(after[1]) == int(before[1]) + 1 and "## Limits" in page
    assert "has no cells here yet" in script("make_lab").page(tmp_path / "nowhere")


def test_the_pictures_of_pages_are_of_the_size_that_their_script_takes():
    from PIL import Image

    pictures = script("make_pictures")
    assert {path.name for path in DOCS.glob("*.png")} == set(pictures.PICTURES)
    for name, (_, width, height) in pictures.PICTURES.items():
        assert (DOCS / name).stat().st_size <= pictures.LARGEST
        with Image.open(DOCS / name) as picture:
            assert picture.size == (width, height), MADE.format("make_pictures")


def test_pictures_are_taken_of_a_finished_demo_only(tmp_path: Path):
    with pytest.raises(UserError, match=r"index\.html; run `make demo` first"):
        script("make_pictures").take(tmp_path)


def test_the_command_line_reference_is_what_its_script_makes():
    made = script("make_cli").page()
    assert made == (DOCS / "reference/cli.md").read_text(encoding="utf-8"), MADE.format("make_cli")


def test_the_command_line_reference_has_every_option_of_the_help():
    from iit_bench.cli.app import group

    page = (DOCS / "reference/cli.md").read_text(encoding="utf-8")
    for name, command in group().commands.items():  # type: ignore[attr-defined]
        section = page.partition(f"## iit-bench {name}\n")[2].partition("\n## ")[0]
        assert all(option in section for parameter in command.params for option in parameter.opts if option.startswith("-")), name


def test_the_tables_of_fields_are_what_the_records_say():
    page = (DOCS / "reference/formats.md").read_text(encoding="utf-8")
    formats = script("make_formats")
    stale = [name for name, record in formats.tables() if script("field_docs").table(record) not in page]
    assert not stale, MADE.format("make_formats")


def test_every_field_on_disk_is_documented():
    assert script("make_formats").undocumented() == []


@pytest.mark.slow
@pytest.mark.slow
def test_the_page_of_file_formats_is_what_its_script_makes():
    made = script("make_formats").page()
    assert made == (DOCS / "reference/formats.md").read_text(encoding="utf-8"), MADE.format("make_formats")


# ---------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge and the site make them."""
    found: set[str] = set()
    for line in FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if heading := re.match(r"#+ +(.*?) *$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [
        target for target in LINK.findall(re.sub(r"`[^`\n]*`(?!\])", "", text)) if "://" not in target and not target.startswith("mailto:")
    ]


def test_links_between_pages_lead_to_a_file_and_a_heading():
    dead = []
    for page in PAGES:
        for target in links(page):
            path, _, anchor = target.partition("#")
            goal = (page.parent / path).resolve() if path else page
            if not goal.exists() or (anchor and goal.suffix == ".md" and anchor not in anchors(goal)):
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead


def test_every_page_is_in_the_navigation_of_the_site():
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert there == {path for path in listed if not path.startswith("project/")}


# ---------------------------------------------------------------- claims and names

CLAIM = re.compile(r'^- "(.+?)"\n((?:    - .+\n)+)', re.MULTILINE)
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NAMED_FILE = re.compile(r"`((?:iit_bench|builders|evaluators|reports|tests|docs|benchmarks)/[\w./-]+)`")


def test_every_claim_is_in_its_page_and_has_a_test():
    sections = re.findall(
        r"^## (\S+\.md)\n(.*?)(?=^## |\Z)", (DOCS / "maintain/claims.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    wrong, count = [], 0
    for page, body in sections:
        text = " ".join((ROOT / page if page == "README.md" else DOCS / page).read_text(encoding="utf-8").split())
        claims = CLAIM.findall(body)
        count += len(claims)
        wrong += [f"{page} does not claim {claim!r}" for claim, _ in claims if claim.replace('\\"', '"') not in text]
        wrong += [f"{claim!r} has no test" for claim, proof in claims if not NAMED_TEST.search(proof)]
        if len(claims) != len(re.findall(r"^- ", body, re.MULTILINE)):
            wrong.append(f"{page}: a claim is not a quotation")
    assert not wrong
    assert count >= 40


def test_every_reported_fault_has_a_test_and_no_file_of_them_is_left_out():
    page = (DOCS / "maintain/reported-faults.md").read_text(encoding="utf-8")
    faults = re.findall(r"^- .*?(?=^- |^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert [fault for fault in faults if " → " not in fault or not NAMED_TEST.search(fault)] == []
    assert len(faults) >= 80
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_reported_faults*.py")}
    assert files - {path for path, _ in NAMED_TEST.findall(page)} == set()


def test_every_file_that_makes_an_interval_is_in_the_list_of_intervals():
    def makes_one(node: ast.AST) -> bool:
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Figure", "replace")
        return named and any(keyword.arg == "low" for keyword in node.keywords)

    page = (DOCS / "maintain/intervals.md").read_text(encoding="utf-8")
    files = [path for room in ("evaluators", "reports", "iit_bench") for path in sorted((ROOT / room).rglob("*.py"))]
    makers = [path for path in files if any(map(makes_one, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))]
    assert len(makers) >= 14
    assert [path.relative_to(ROOT).as_posix() for path in makers if f"`{path.relative_to(ROOT).as_posix()}`" not in page] == []


def test_every_test_that_a_page_names_exists():
    missing = []
    for page in PAGES:
        for path, name in NAMED_TEST.findall(page.read_text(encoding="utf-8")):
            file = ROOT / path
            if not file.is_file() or not re.search(rf"^(async )?def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                missing.append(f"{page.relative_to(ROOT)}: {path}::{name}")
    assert not missing


def test_every_file_that_a_page_names_exists():
    named = {(page, path) for page in PAGES if page.name != "CHANGELOG.md" for path in NAMED_FILE.findall(page.read_text(encoding="utf-8"))}
    missing = [f"{page.relative_to(ROOT)}: {path}" for page, path in sorted(named) if not (ROOT / path).exists()]
    assert not missing

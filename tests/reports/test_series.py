"""The page of a series of checkpoints: their order, what they are compared with, and its numbers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from evaluators.iit.columns import Turns
from evaluators.iit.ledger import transitions
from evaluators.statistics import few_items
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports.cells import percent
from reports.leaderboard import report
from reports.series import steps
from tests.recompute_figures import Check
from tests.recompute_series import check_series

MakeRun = Callable[..., Path]
SKILLS = {"checkpoint-9": 0.9, "checkpoint-10": 0.6, "checkpoint-200": 0.75}


def rows_of(page: str) -> list[list[str]]:
    """The cells of the series' table as texts."""
    table = page[page.index('<table id="series"') :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    cell = re.compile(r"<t[hd] [^>]*>(.*?)</t[hd]>", re.DOTALL)
    return [[" ".join(re.sub(r"<[^>]+>", " ", text).split()) for text in cell.findall(row)] for row in body.split("</tr>")[:-1]]


def made(runs: list[Path], out: Path, **options: bool) -> str:
    report(runs, out, series=True, **options)  # type: ignore[arg-type]
    return (out / "series.html").read_text(encoding="utf-8")


@pytest.fixture
def base(make_run: MakeRun) -> Path:
    return make_run("base", 0.95)


@pytest.fixture
def runs(make_run: MakeRun, base: Path) -> list[Path]:
    return [make_run(name, skill, base="base") for name, skill in SKILLS.items()]


@dataclass(frozen=True)
class Written:
    """A report of a series, which tests only read."""

    base: Path
    runs: list[Path]
    report: Path

    def page(self) -> str:
        return (self.report / "series.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(maker_in: Callable[[Path], MakeRun], tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("series")
    make = maker_in(folder)
    base = make("base", 0.95)
    runs = [make(name, skill, base="base", failed=1) for name, skill in SKILLS.items()]
    made([base, *runs], folder / "report")
    return Written(base, runs, folder / "report")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["checkpoint-10", "checkpoint-9"], [10, 9]),
        (["run1/step-3/iit", "run1/step-20/iit"], [3, 20]),
        (["a", "b"], None),
        (["wings-1", "llava-2"], None),
        (["v2-step-1", "v2-step-1"], None),
    ],
)
def test_steps_are_the_last_numbers_of_names_that_are_equal_but_for_them(names: list[str], expected: list[int] | None) -> None:
    assert steps(names) == expected


def test_checkpoints_are_in_the_order_of_their_steps_whatever_the_order_given(runs: list[Path], base: Path, tmp_path: Path) -> None:
    page = made([runs[2], base, runs[1], runs[0]], tmp_path / "report")
    assert [row[:2] for row in rows_of(page)] == [["checkpoint-9", "9"], ["checkpoint-10", "10"], ["checkpoint-200", "200"]]
    assert page == made([base, *runs], tmp_path / "again")


def test_checkpoints_without_steps_are_in_the_order_given(make_run: MakeRun, base: Path, tmp_path: Path) -> None:
    named = [make_run(name, 0.7, base="base") for name in ("late", "early", "middle")]
    assert [row[:2] for row in rows_of(made([*named, base], tmp_path / "report"))] == [["late", "1"], ["early", "2"], ["middle", "3"]]


def test_the_table_has_the_figures_of_the_results(written: Written) -> None:
    for row, path, before in zip(rows_of(written.page()), written.runs, [None, *written.runs], strict=False):
        results = load_run(path, "iit").results
        assert results.forgetting is not None and results.forgetting.ledger is not None
        lost = results.forgetting.ledger.parts[0].corrected["lost"]
        assert row[2].startswith(percent(results.iit["acc"].value or 0)) and row[7].startswith(percent(lost.value or 0))
        few = few_items(results.forgetting.ledger.parts[0].counts)
        assert ["few items" in cell for cell in row[7:9]] == [name in few for name in ("lost", "gained")]
        if before is not None:
            turns = [Turns.of_run(load_run(one, "iit")) for one in (path, before)]
            became = [what for (dialogue, _), what in transitions(*turns).items() if dialogue.endswith("T")]
            assert [cell.split()[0] for cell in row[9:]] == [str(became.count("lost")), str(became.count("gained"))]


@pytest.mark.oracle
def test_curves_table_and_headline_equal_their_recomputation(written: Written) -> None:
    check = Check()
    check_series(check, written.report, written.runs, written.base)
    assert check.off == [] and check.compared > 150


@pytest.mark.oracle
def test_numbers_of_a_series_that_are_off_are_found(written: Written, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for path in (*written.report.glob("figures/series-*.csv"), written.report / "series.html"):
        shutil.copy(path, tmp_path / path.relative_to(written.report))
    page = written.page()
    table = page.index('<table id="series"')
    number = re.search(r"\d\d\.\d", page[table:])
    assert number is not None
    at = table + number.start()
    page = page[:at] + f"{float(number[0]) + 0.2:.1f}" + page[at + 4 :]
    page = re.sub(r"lost most, ([\d.]+)", "lost most, 99.9", page)
    (tmp_path / "series.html").write_text(page, encoding="utf-8")
    curve = tmp_path / "figures" / "series-series-items.csv"
    head, first, *rest = curve.read_text(encoding="utf-8").splitlines()
    *cells, high = first.split(",")
    curve.write_text("\n".join([head, ",".join([*cells, str(float(high) + 1e-4)]), *rest]) + "\n", encoding="utf-8")
    check = Check()
    check_series(check, tmp_path, written.runs, written.base)
    assert [line.split(" ")[0] for line in check.off] == ["items", "checkpoint-9", "headline"]


def test_the_page_says_what_the_last_lost_and_who_lost_most(written: Written) -> None:
    page = written.page()
    most = load_run(written.runs[1], "iit").results.forgetting
    assert most is not None
    assert f"step 10 lost most, {percent(most.pooled.difference.value or 0)}" in page
    assert {path.name for path in (written.report / "figures").glob("series-*.csv")} == {
        "series-series-scores.csv",
        "series-series-lost.csv",
        "series-series-items.csv",
    }
    assert 'href="series.html"' in (written.report / "index.html").read_text(encoding="utf-8")


def test_a_series_that_lost_nothing_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    base = make_run("base", 0.3)
    runs = [make_run(f"checkpoint-{step}", skill, base="base") for step, skill in ((1, 0.8), (2, 0.99))]
    page = made([base, *runs], tmp_path / "report")
    assert "against base the last gained " in page and "lost most" not in page


def test_without_a_base_the_first_checkpoint_is_the_reference(make_run: MakeRun, tmp_path: Path) -> None:
    runs, check = [make_run(name, skill) for name, skill in SKILLS.items()], Check()
    page = made(runs, tmp_path / "report")
    check_series(check, tmp_path / "report", runs, None)
    assert check.off == [] and check.compared > 100
    rows = rows_of(page)
    assert "against checkpoint-9" in page and rows[0][6].startswith("not available") and rows[1][6].startswith("+")


def test_a_single_checkpoint_beside_its_base_is_no_series(runs: list[Path], base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two or more runs"):
        made([base, runs[0]], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_report_without_series_has_no_such_page(runs: list[Path], base: Path, tmp_path: Path) -> None:
    report([base, *runs], tmp_path / "report")
    assert not (tmp_path / "report" / "series.html").exists()

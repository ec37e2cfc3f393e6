"""Every file, heading and module that a text of this repository names exists (CONTRIBUTING.md "Citing the spec").

A spec is cited by a heading, as in docs/spec/iit.md#scoring; headings that follow in a list, as in
docs/spec/wings.md#a4-layer, #b5-router-weights, are of the same file.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / ".git").exists():
    pytest.skip("the files are listed by git, and this is no checkout", allow_module_level=True)
ROOMS = ("iit_bench", "builders", "evaluators", "reports", "tests", "benchmarks", "docs", "findings")
KINDS = (".py", ".md", ".html", ".yaml", ".toml", ".txt", ".js", ".css")
HISTORY = ("CHANGELOG.md",)  # names what existed at the time
EXAMPLES = (
    "tests/test_citations.py",
    "tests/test_architecture.py",
    "tests/architecture.py",
    "tests/architecture_files.py",
)  # made-up names

# Names that are no file or module here, and what they are.
ELSEWHERE = {
    "LICENSES.md": "a file of a benchmark for the Hub (builders/export/published.py)",
    "infer.py": "a script of the authors' code (docs/spec/wings.md)",
    "sitecustomize.py": "a file that Python itself looks for",
    "utils.py": "the file that a room must not have (ARCHITECTURE.md)",
    "iit_bench.models": "a group of entry points",
    "iit_bench.sources": "a group of entry points",
}

_ANCHOR = r"#[a-z0-9][\w-]*"
_SPEC = re.compile(rf"docs/spec/([\w-]+\.md)(?:({_ANCHOR}(?:(?:,| and| to|, and)\s+{_ANCHOR})*))?")
_PATH = re.compile(rf"(?<![\w./:~-])(?:{'|'.join(ROOMS)})(?:/[\w.-]+)+(?:\.\w+|/)(?![\w*{{<])")
_FILE = re.compile(r"(?<![\w./:*{}<>~-])((?:[\w-]+/)*[\w-]+\.(?:py|md))(?![\w*/])")
_DOTTED = re.compile(rf"(?<![\w./:-])(?:{'|'.join(ROOMS)})(?:\.\w+)+(?![\w/*])")


# ---------------------------------------------------------------- what there is


@cache
def tracked() -> tuple[str, ...]:
    """Files that git knows, and new ones that it does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(name for name in names if (ROOT / name).is_file())


@cache
def endings() -> frozenset[str]:
    """Every path of a file or folder, and every end of one: `iit_bench/engine/log.py`, `engine/log.py`, `log.py`."""
    found = set()
    for name in tracked():
        parts = name.split("/")
        for stop in range(1, len(parts) + 1):
            found |= {"/".join(parts[start:stop]) for start in range(stop)}
    return frozenset(found)


@cache
def whole_paths() -> frozenset[str]:
    found = set(tracked())
    for name in tracked():
        found |= {str(parent) for parent in Path(name).parents}
    return frozenset(found)


def slug(heading: str) -> str:
    """The anchor of a heading, as forges and mkdocs make it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


@cache
def anchors(spec: str) -> frozenset[str]:
    text = (ROOT / "docs" / "spec" / spec).read_text(encoding="utf-8")
    return frozenset("#" + slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE))


# ---------------------------------------------------------------- what a text says


def dead_citations(text: str, needs_heading: bool) -> Iterator[str]:
    """Citations of a spec or a heading that is not there; with `needs_heading` also those of a whole spec."""
    for match in _SPEC.finditer(text):
        spec, cited = match.group(1), re.findall(_ANCHOR, match.group(2) or "")
        if f"docs/spec/{spec}" not in tracked():
            yield match.group(0)
        elif needs_heading and not cited:
            yield f"{match.group(0)} names no heading"
        else:
            yield from (f"docs/spec/{spec}{anchor}" for anchor in cited if anchor not in anchors(spec))


def dead_paths(text: str) -> Iterator[str]:
    """Paths that begin with a room of this repository and lead nowhere."""
    for match in _PATH.finditer(text):
        if match.group(0).rstrip("/") not in whole_paths():
            yield match.group(0)


def dead_files(prose: str) -> Iterator[str]:
    """Names of Python and Markdown files that end no path here and are no known file of another project."""
    for name in _FILE.findall(prose):
        if name not in endings() and name not in ELSEWHERE:
            yield name


def dead_modules(text: str) -> Iterator[str]:
    """Dotted names of a room whose module, or whose name in that module, is not there."""
    for match in _DOTTED.finditer(text):
        if match.group(0) in ELSEWHERE or f".{match.group(0).rsplit('.', 1)[1]}" in KINDS:
            continue
        place, rest = ROOT, match.group(0).split(".")
        while rest and (place / rest[0]).is_dir():
            place /= rest.pop(0)
        module = place / "__init__.py"
        if rest and (place / f"{rest[0]}.py").is_file():
            module = place / f"{rest.pop(0)}.py"
        if rest and not (module.is_file() and re.search(rf"\b{rest[0]}\b", module.read_text(encoding="utf-8"))):
            yield match.group(0)


def prose_of(source: str) -> str:
    """Comments and docstrings of a Python file."""
    comments = [token.string for token in tokenize.generate_tokens(StringIO(source).readline) if token.type == tokenize.COMMENT]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return "\n".join([*comments, *docstrings])


def dead_names(name: str, text: str) -> list[str]:
    """All that the text of one file names and that does not exist, each once."""
    prose = prose_of(text) if name.endswith(".py") else text
    found = [*dead_citations(text, needs_heading=name.endswith(".py")), *dead_paths(text), *dead_modules(prose)]
    if name.endswith((".py", ".md")):
        found += dead_files(prose)
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- tests


def texts() -> list[str]:
    return [name for name in tracked() if name.endswith(KINDS) and name not in (*HISTORY, *EXAMPLES)]


@pytest.mark.slow
@pytest.mark.parametrize("room", sorted({name.split("/")[0] for name in texts()}))
def test_what_a_text_names_exists(room: str) -> None:
    dead = {name: found for name in texts() if name.split("/")[0] == room and (found := dead_names(name, (ROOT / name).read_text("utf-8")))}
    assert not dead


def test_the_specs_are_cited() -> None:
    """The checks above see the citations at all: each section that code implements is cited somewhere."""
    cited = "\n".join((ROOT / name).read_text("utf-8") for name in texts() if name.endswith(".py"))
    seen = {anchor for match in _SPEC.finditer(cited) for anchor in re.findall(_ANCHOR, match.group(2) or "")}
    assert {"#building-3-histories", "#scoring", "#on-disk", "#a3-lorra", "#b8-appending"} <= seen


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("(docs/spec/iit.md#scoring)", []),
        ("(docs/spec/iit.md#scorings)", ["docs/spec/iit.md#scorings"]),
        ("docs/spec/wings.md#b1-positions to #b4-nothing-visible, and #b9-learner-heads.", []),
        ("docs/spec/wings.md#a4-layer, #b5-router-weight", ["docs/spec/wings.md#b5-router-weight"]),
        ("docs/spec/wings.md part B", ["docs/spec/wings.md names no heading"]),
        ("docs/spec/nothing.md#scoring", ["docs/spec/nothing.md#scoring", "docs/spec/nothing.md"]),
        ("IIT" + '.md "Scoring"', ["IIT" + ".md"]),
        ("see builders/build.py and builders/presets/", []),
        ("see builders/gone.py and docs/gone/", ["builders/gone.py", "docs/gone/"]),
        ("`engine/log.py`, `build.py`, `README.md`", []),
        ("`engine/gone.py`, `gone.py`", ["engine/gone.py", "gone.py"]),
        ("`iit_bench.errors.UserError`, `iit_bench.engine.log`", []),
        ("`iit_bench.errors.GoneError`, `iit_bench.gone.log`", ["iit_bench.errors.GoneError", "iit_bench.gone.log"]),
    ],
)
def test_a_dead_name_is_found(text: str, dead: list[str], tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(f'"""{text}."""\n', "utf-8")
    assert dead_names(source.name, source.read_text("utf-8")) == dead


def test_only_prose_names_files(tmp_path: Path) -> None:
    """A test may write a file of any name; a comment about one must be true."""
    assert not dead_names("module.py", 'path = "gone.py"\n')
    assert dead_names("module.py", "path = 1  # as in gone.py\n") == ["gone.py"]


@pytest.mark.parametrize("spec", ["iit.md", "wings.md"])
def test_headings_of_a_spec_differ(spec: str) -> None:
    text = (ROOT / "docs" / "spec" / spec).read_text("utf-8")
    assert len(anchors(spec)) == len(re.findall(r"^#+ ", text, re.MULTILINE))

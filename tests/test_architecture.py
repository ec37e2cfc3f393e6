"""The project keeps the rules of `architecture.py`, and each rule catches a small project that breaks it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

RULES = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("architecture.py"))))
ROOT = Path(__file__).parent.parent
DOC = '"""A text."""\n'


@pytest.fixture(scope="module")
def project():
    return RULES.Tree(ROOT)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., object]:
    """Makes a project of the named files: path → source."""

    def made(files: dict[str, str]) -> object:
        for path, source in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(source, encoding="utf-8")
        return RULES.Tree(tmp_path)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES.RULES)
def test_the_project_keeps_the_rule(project, rule):
    wrong = RULES.RULES[rule](project)
    assert not wrong, f"{len(wrong)} violations (`python tests/architecture.py` lists all):\n" + "\n".join(wrong)


@pytest.mark.slow
def test_the_project_is_read(project):
    assert {"iit_bench", "iit_bench.cli.app", "builders.build", "iit_bench.models.wings.modeling"} <= set(project.modules)
    assert "tests/test_architecture.py" in project.files
    assert any(edge.source == "iit_bench" and edge.target == "builders.build" and not edge.eager for edge in RULES.imports(project))


def test_every_room_imports_only_what_the_table_has():
    names = [prefix for holds, _ in RULES.ROOMS.values() for prefix in holds]
    assert len(names) == len(set(names)), "a name is in two rooms"
    for room, (_, allowed) in RULES.ROOMS.items():
        assert all(RULES.room_of(prefix) for prefix in allowed), room
        assert RULES.FACE not in allowed


def test_a_module_without_a_room_is_caught(write):
    tree = write({"iit_bench/__init__.py": "", "iit_bench/helpers.py": "", "iit_bench/storage/deep/tables.py": ""})
    assert RULES.rooms(tree) == ["iit_bench/helpers.py: the table ROOMS has no place for iit_bench.helpers"]


UPWARD = {
    "words import storage": ("iit_bench/types.py", "from iit_bench.storage import tables", "iit_bench/storage/tables.py"),
    "storage imports models": ("iit_bench/storage/tables.py", "import iit_bench.models.contract", "iit_bench/models/contract.py"),
    "data imports engine": ("iit_bench/data/facts.py", "from iit_bench.engine import plan", "iit_bench/engine/plan.py"),
    "models import engine": ("iit_bench/models/vllm/load.py", "from iit_bench.engine.plan import x", "iit_bench/engine/plan.py"),
    "engine imports a family": ("iit_bench/engine/run.py", "import iit_bench.models.vllm.load", "iit_bench/models/vllm/load.py"),
    "training imports sources": ("iit_bench/training/vlm.py", "from builders.sources import lab", "builders/sources/lab.py"),
    "evaluators import sources": ("evaluators/fetch/needs.py", "from builders.sources.lab import x", "builders/sources/lab.py"),
    "builders import evaluators": ("builders/build.py", "import evaluators.iit.extraction", "evaluators/iit/extraction.py"),
    "reports import a suite": ("reports/iit/rows.py", "from evaluators.vqa import scores", "evaluators/vqa/scores.py"),
    "reports import the engine": ("reports/iit/rows.py", "from iit_bench.engine import log", "iit_bench/engine/log.py"),
    "evaluators import reports": ("evaluators/runs/header.py", "from reports.shared import x", "reports/shared.py"),
    "evaluators import the roof": ("evaluators/runs/header.py", "from iit_bench.cli.app import x", "iit_bench/cli/app.py"),
}


@pytest.mark.parametrize("case", UPWARD)
@pytest.mark.parametrize("form", ["{}", "def f():\n    {}", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}"])
def test_an_import_that_the_floors_forbid_is_caught(write, case, form):
    path, statement, target = UPWARD[case]
    (wrong,) = RULES.floors(write({path: form.format(statement), target: ""}))
    line = form.count("\n") + 1
    assert wrong.startswith(f"{path}:{line}: ") and "may not" in wrong


def test_imports_written_in_other_ways_are_caught(write):
    target = {"builders/sources/lab.py": "", "builders/sources/__init__.py": "", "builders/__init__.py": ""}
    by_name = "from importlib import import_module\n\ndef f():\n    return import_module('builders.sources.lab')\n"
    assert len(RULES.floors(write({"evaluators/a.py": by_name, **target}))) == 1
    assert len(RULES.floors(write({"evaluators/a.py": "from builders.sources import *\n"}))) == 1
    relative = {"evaluators/a.py": "", "builders/sources/lab.py": "from ..build import x\nfrom . import base\nfrom .base import y\n"}
    tree = write({**relative, "builders/build.py": "", "builders/sources/base.py": ""})
    assert [edge.target for edge in RULES.imports(tree)] == ["builders.build", "builders.sources.base", "builders.sources.base"]


def test_an_import_of_a_module_that_is_gone_is_caught(write):
    (wrong,) = RULES.floors(write({"builders/build.py": "def f():\n    from builders.gone import x\n", "builders/__init__.py": ""}))
    assert wrong == "builders/build.py:2: builders.build imports builders.gone, which does not exist"


def test_a_name_of_the_lazy_face_is_caught_and_a_submodule_is_not(write):
    files = {"iit_bench/__init__.py": "", "iit_bench/asking.py": "", "iit_bench/cli/app.py": "from iit_bench import __version__, asking\n"}
    (wrong,) = RULES.floors(write(files))
    assert wrong == "iit_bench/cli/app.py:1: iit_bench.cli.app imports iit_bench/__init__.py; names of the lazy face are for users only"


def test_the_roof_and_the_doors_let_through_what_the_table_says(write):
    tree = write(
        {
            "iit_bench/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from builders.build import build\n",
            "iit_bench/workflows/demo.py": "def f():\n    import reports.leaderboard, builders.build\n",
            "iit_bench/engine/plan.py": "from iit_bench.models.contract import Model\n",
            "iit_bench/models/contract.py": "from iit_bench.types import Image\n",
            "iit_bench/types.py": "",
            "builders/build.py": "",
            "builders/export/lm_eval.py": "import evaluators.iit.extraction\n",
            "evaluators/iit/extraction.py": "",
            "evaluators/fetch/needs.py": "from builders.presets import read\n",
            "builders/presets/__init__.py": "",
            "reports/leaderboard.py": "from evaluators.runs.reading import runs\nfrom evaluators.statistics import wilson\n",
            "evaluators/runs/reading.py": "",
            "evaluators/statistics.py": "",
        }
    )
    assert [RULES.rooms(tree), RULES.floors(tree), RULES.doors(tree), RULES.circles(tree)] == [[], [], [], []]


def test_a_door_that_nothing_uses_is_caught(write):
    assert len(RULES.doors(write({"builders/export/lm_eval.py": ""}))) == len(RULES.DOORS)


def test_torch_in_reports_is_caught_even_in_a_function(write):
    (wrong,) = RULES.packages(write({"reports/cells.py": "def f():\n    from torch.nn import Linear\n"}))
    assert "reports.cells imports torch" in wrong


def test_a_heavy_package_loaded_by_the_command_line_is_caught_with_its_chain(write):
    files = {
        "iit_bench/cli/eval.py": "from iit_bench.storage.runs import load\n",
        "iit_bench/storage/__init__.py": "import pyarrow.parquet\n",  # runs before the submodule
        "iit_bench/storage/runs.py": "def f():\n    import torch\n",
    }
    (wrong,) = RULES.packages(write(files))
    assert wrong == "iit_bench/storage/__init__.py:1: importing iit_bench.cli.eval → iit_bench.storage loads pyarrow"


def test_circles_are_caught_lazy_and_typing_only_imports_counted(write):
    files = {
        "builders/a.py": "from builders import b\n",
        "builders/b.py": "def f():\n    from builders.c import x\n",
        "builders/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from builders.a import y\n",
        "builders/d.py": "import builders.a\n",  # into the circle, not on it
        "evaluators/iit/__init__.py": "from evaluators.iit import evaluate\n",
        "evaluators/iit/evaluate.py": "from evaluators.iit import turns\n",  # a submodule: not an import of the package
        "evaluators/iit/turns.py": "",
    }
    (wrong,) = RULES.circles(write(files))
    assert wrong.splitlines() == [
        "circle of 3: builders.a, builders.b, builders.c",
        "    builders/a.py:1: builders.a → builders.b",
        "    builders/b.py:2: builders.b → builders.c (lazy or typing-only)",
        "    builders/c.py:3: builders.c → builders.a (lazy or typing-only)",
    ]
    assert len(RULES.circles(write({"evaluators/iit/turns.py": "from evaluators.iit import evaluate, NAME\n"}))) == 2


def test_a_registered_name_of_a_module_that_is_gone_is_caught(write):
    table = 'MODELS = {"a": "iit_bench.models.bundled:load", "b": "iit_bench.models.gone:load", "c": "other.package:load"}\n'
    tree = write({"iit_bench/registry.py": table, "iit_bench/models/bundled.py": ""})
    assert RULES.RULES["targets"](tree) == ['iit_bench/registry.py:1: "iit_bench.models.gone:load" names no module']


def test_a_long_file_is_caught(write):
    tree = write({"tests/test_long.py": "x = 1\n" * 401, "reports/short.py": "x = 1\n" * 400, ".venv/long.py": "x = 1\n" * 401})
    assert RULES.RULES["lengths"](tree) == ["tests/test_long.py: 401 lines, at most 400"]


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("except:\n    pass", True),
        ("except Exception:\n    x = None", True),
        ("except (ValueError, builtins.BaseException) as error:\n    print('failed')", True),
        ("except Exception as error:\n    del error", True),
        ("except ValueError:\n    pass", False),
        ("except Exception:\n    clean()\n    raise", False),
        ("except Exception as error:\n    failures.append(str(error))", False),
    ],
)
def test_a_broad_except_raises_or_records(write, handler, caught):
    assert bool(RULES.RULES["broad_excepts"](write({"iit_bench/http.py": f"try:\n    f()\n{handler}\n"}))) == caught


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("except ValueError as error:\n    raise UserError(f'no JSON ({error})')", True),
        ("except (OwnError, OSError) as error:\n    note(str(error))", True),
        ("except decoding_errors() as why:\n    raise ItemError('unreadable', repr(why))", True),
        ("except KeyError as error:\n    raise UserError(error)", True),
        ("except ValueError as error:\n    raise UserError(f'no JSON ({one_line(error)}, {type(error).__name__})')", False),
        ("except ValueError as error:\n    if 'closed' in str(error) or CLOSED.search(str(error)):\n        raise", False),
        ("except OwnError as error:\n    raise UserError(f'{error}; resume')", False),
    ],
)
def test_raw_words_of_a_foreign_exception_are_caught(write, handler, caught):
    own = "class OwnError(Exception):\n    pass\n"
    wrong = RULES.RULES["raw_errors"](write({"iit_bench/http.py": f"{own}try:\n    f()\n{handler}\n"}))
    assert wrong == (["iit_bench/http.py:6: repeats the words of a foreign exception raw"] if caught else [])


def test_suppressing_everything_is_caught(write):
    tree = write(
        {
            "iit_bench/http.py": "with contextlib.suppress(OSError, Exception):\n    f()\n",
            "tests/t.py": "with suppress(OSError):\n    f()\n",
        }
    )
    assert RULES.RULES["broad_excepts"](tree) == ["iit_bench/http.py:1: suppress() of everything"]


def test_missing_docstrings_are_caught(write):
    base = f"{DOC}class Base:\n    {DOC}    def shown(self):\n        {DOC}    def bare(self):\n        pass\n"
    derived = (
        f"{DOC}from iit_bench.models.contract import Base as Parent\n"
        f"class Middle(Parent):\n    {DOC}"
        "class Leaf(Middle):\n    @property\n    def size(self): ...\n    def __len__(self): ...\n    def _own(self): ...\n"
        "    def shown(self): ...\n    def bare(self): ...\n"
        "def public(): ...\ndef _private(): ...\nclass _Hidden:\n    def method(self): ...\n"
    )
    tree = write(
        {"iit_bench/models/contract.py": base, "iit_bench/models/x.py": derived, "builders/__init__.py": "", "builders/m.py": "x = 1"}
    )
    assert [line.split(": ", 1)[1] for line in RULES.RULES["docstrings"](tree)] == [
        "module builders.m",
        "method Base.bare",
        "class Leaf",
        "method Leaf.bare",
        "function public",
    ]


def test_a_folder_of_tests_without_a_room_is_caught(write):
    tests = [
        "tests/models/vllm/t.py",
        "tests/models/gone/t.py",
        "tests/evaluators/iit/t.py",
        "tests/reports/t.py",
        "tests/t.py",
        "tests/data/m.py",
    ]
    rooms = ["iit_bench/models/vllm/load.py", "evaluators/iit/turns.py", "reports/page.py"]
    tree = write(dict.fromkeys([*tests, *rooms], ""))
    assert RULES.RULES["mirror"](tree) == ["tests/models/gone: there is no room iit_bench/models/gone"]


def test_the_command_line_lists_and_counts(write, capsys, tmp_path):
    write({"iit_bench/helpers.py": DOC})
    assert RULES.main(tmp_path) == 1
    assert "rooms: 1\n  iit_bench/helpers.py: the table ROOMS has no place" in capsys.readouterr().out

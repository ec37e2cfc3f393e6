"""`import iit_bench` is instant, and its names are the functions behind the commands and their records."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import iit_bench
from iit_bench.cli.app import group


def test_importing_the_package_imports_no_room():
    code = "import sys, iit_bench; print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'pyarrow', 'numpy', 'builders'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_public_name_is_there():
    from builders.build import build
    from evaluators.iit.evaluate import evaluate

    assert all(callable(getattr(iit_bench, name)) for name in iit_bench.__all__)
    assert (iit_bench.build, iit_bench.evaluate) == (build, evaluate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = iit_bench.nothing


def test_every_name_is_the_one_that_a_type_checker_sees():
    tree = ast.parse(Path(iit_bench.__file__).read_text(encoding="utf-8"))
    (typing_only,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname or alias.name: (node.module, alias.name) for node in typing_only.body for alias in node.names}
    places = {name: place.partition(":") for name, place in iit_bench._PLACES.items()}
    assert seen == {name: (module, theirs or name) for name, (module, _, theirs) in places.items()}
    assert set(iit_bench.__all__) == set(seen)
    for name, (module, theirs) in seen.items():
        assert getattr(iit_bench, name) is getattr(sys.modules[module], theirs)


def test_every_command_has_a_documented_twin():
    others = {"eval": "evaluate", "lab": "run_lab"}  # `iit_bench.lab` is a package
    twins = {others.get(name, name) for name in group().commands} - {"list"}
    assert twins <= set(iit_bench.__all__)
    assert {"evaluate_text", "evaluate_vqa", "evaluate_all"} <= set(iit_bench.__all__)
    for name in (*twins, "evaluate_text", "evaluate_vqa", "evaluate_all"):
        assert inspect.getdoc(getattr(iit_bench, name)), name
    records = [getattr(iit_bench, name) for name in iit_bench.__all__ if name.endswith("Options")]
    assert len(records) >= 8 and all(map(dataclasses.is_dataclass, records))

"""The examples of docs/reference/python.md run unchanged, in one folder, offline."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "python.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OF_ANOTHER_TEST = ("demo", "run_lab")  # minutes; tests/workflows/test_demo.py, tests/lab/test_run.py


def examples() -> dict[str, str]:
    """Heading of each section with an example → its code."""
    sections = SECTION.findall(PAGE.read_text(encoding="utf-8"))
    return {heading: "\n".join(blocks) for heading, body in sections if (blocks := BLOCK.findall(body))}


def test_every_public_function_has_an_example():
    import iit_bench

    functions = {name for name in iit_bench.__all__ if name[0].islower()}
    shown = {name for name in functions if any(f"iit_bench.{name}(" in code for code in examples().values())}
    assert shown == functions


def test_every_example_is_python():
    for heading, code in examples().items():
        compile(code, heading, "exec")


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
@pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
def test_the_examples_run_and_print_what_their_comments_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for heading, code in examples().items():
        if heading in OF_ANOTHER_TEST:
            continue
        capsys.readouterr()
        exec(compile(code, heading, "exec"), names)
        printed = capsys.readouterr().out
        expected = re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE)
        assert [line for line in expected if line not in printed.splitlines()] == [], heading

"""What Ctrl-C prints is true of each command: what is left, and the command that goes on."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_bench.cli import main
from iit_bench.storage import whole_folders
from iit_bench.workflows import merging, submitting
from iit_bench.workflows.verifying import verify
from reports import folder as report_folder
from tests.cli.test_exit_codes import BEHIND

pytestmark = pytest.mark.slow


@pytest.fixture
def interrupted(capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[str, list[str]]]:
    """interrupted(words) → what an interrupted command says, without the command, and the words of the command that it names."""

    def ended(words: str) -> tuple[str, list[str]]:
        capsys.readouterr()
        assert main(shlex.split(words)) == 130
        (line,) = capsys.readouterr().err.splitlines()
        said, _, again = line.partition(": iit-bench ")
        return said, shlex.split(again)

    return ended


@pytest.fixture
def run(bench: Any, tmp_path: Path) -> Path:
    out = tmp_path / "majority"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(out), "--limit", "2", "--quiet"]) == 0
    return out


def stops(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def at_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Be interrupted at the n-th call of a function."""
    calls = iter(range(1, number))
    return lambda *given, **more: real(*given, **more) if next(calls, None) else stops()


def test_a_report_may_have_files_and_the_command_that_is_named_finishes_it(run: Path, interrupted, monkeypatch, tmp_path: Path) -> None:
    out = tmp_path / "report"
    with monkeypatch.context() as patch:
        patch.setattr(report_folder, "write_atomic", at_call(6, report_folder.write_atomic))
        said, again = interrupted(f"report {run} --out {out}")
    assert list(out.rglob("*.*")) and not (out / "index.html").exists()
    assert "some files of the report may be written" in said and "nothing" not in said
    (found,) = verify([out])
    assert not found.whole and not found.finished
    assert main(again) == 0
    (found,) = verify([out])
    assert found.whole and found.sealed


def test_tasks_may_be_submitted(interrupted, monkeypatch, tmp_path: Path) -> None:
    submitted: list[Any] = []
    monkeypatch.setattr(submitting, "submit", lambda words, *_, **__: submitted.append(words) or [])
    monkeypatch.setattr(importlib.import_module("iit_bench.cli.submit"), "write", stops)
    words = f"submit eval --model random --bench {tmp_path} --out {tmp_path / 'out'} --fresh"
    said, again = interrupted(words)
    assert submitted and "tasks may be submitted already" in said and "nothing" not in said
    assert again == words.split()  # --fresh is of the evaluation


def test_answers_of_a_merge_may_be_moved(run: Path, interrupted, monkeypatch) -> None:
    monkeypatch.setattr(merging, "Merged", stops)  # all is done by then
    said, again = interrupted(f"merge {run}")
    assert "no answer is lost, and some may be moved already" in said and "nothing" not in said
    monkeypatch.undo()
    assert main(again) == 0


def test_an_export_is_as_it_was_before(run: Path, interrupted, monkeypatch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(whole_folders, "write_atomic", at_call(2, whole_folders.write_atomic))
        said, again = interrupted(f"export {run} --to csv --out {out} --quiet")
    assert not out.exists() and said.endswith("what it writes is whole or as it was before; start again with")
    assert main(again) == 0


RESUMES = "finished work is kept, resume with"
WHOLE = "what it writes is whole or as it was before; start again with"
SAID = {
    **dict.fromkeys(("demo", "fetch", "eval", "arms", "watch", "train", "lab"), RESUMES),
    **dict.fromkeys(("build", "export", "attention"), WHOLE),
    **dict.fromkeys(("plan", "compare", "show", "diff", "explain", "verify", "list"), "nothing was written; start again with"),
    "report": "some files of the report may be written; to finish it, repeat",
    "merge": "no answer is lost, and some may be moved already; to finish, repeat",
    "submit": "tasks may be submitted already (with Slurm, `squeue` lists them): end those before you start again with",
}


@pytest.mark.parametrize("command", BEHIND)
def test_each_command_says_what_is_true_of_it(command: str, interrupted, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    place, words = BEHIND[command]
    module, name = place.split(":")
    monkeypatch.setattr(importlib.import_module(module), name, stops)
    said, again = interrupted(f"{command} {words}")
    assert said == f"iit-bench: interrupted{',' if 'nothing' in said else ';'} {SAID[command]}"
    assert again == [command, *words.split()]

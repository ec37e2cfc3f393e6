"""What a command with --fresh prints when it is stopped is right before it has begun the earlier run anew, and afterwards."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.arms import evaluate as arms
from evaluators.iit import evaluate as iit
from iit_bench.cli import main
from iit_bench.errors import MachineError
from iit_bench.models.baselines import RandomModel
from iit_bench.ranks import LAUNCH
from iit_bench.storage import anew
from iit_bench.storage.runs import load_run, load_run_header
from iit_bench.workflows import several
from tests.full_disk import files_of_at_most

pytestmark = pytest.mark.slow


@pytest.fixture
def stopped(capsys: pytest.CaptureFixture[str]) -> Callable[[str, int], str]:
    """stopped(words, code) → the one sentence that a command ends with."""

    def ended(words: str, code: int = 130) -> str:
        capsys.readouterr()
        assert main(shlex.split(words)) == code
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return ended


@pytest.fixture
def earlier(bench: Any, tmp_path: Path) -> tuple[Path, str]:
    """A finished run of seed 1, and the words of one of seed 2 into its folder."""
    out = tmp_path / "run"
    words = f"eval --model random --bench {bench.path} --out {out} --limit 2 --quiet --seed"
    assert main(shlex.split(f"{words} 1")) == 0
    return out, f"{words} 2 --fresh"


def stops(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def resumed(line: str) -> list[str]:
    return shlex.split(line.partition(": iit-bench ")[2])


def test_before_the_run_is_begun_anew_the_command_begins_it_anew(earlier, stopped, monkeypatch) -> None:
    """Without --fresh it was refused, as the folder holds another run; or it took the earlier one as finished."""
    out, words = earlier
    with monkeypatch.context() as patch:
        patch.setattr(iit, "load_model", stops)
        line = stopped(words)
    assert line == f"iit-bench: interrupted; --fresh has begun no run anew yet; start again with: iit-bench {words}"
    assert load_run(out).run["seed"] == 1
    assert main(resumed(line)) == 0 and load_run(out).run["seed"] == 2


def test_after_the_run_is_begun_anew_the_command_resumes_it(earlier, stopped, monkeypatch) -> None:
    out, words = earlier
    with monkeypatch.context() as patch:
        patch.setattr(iit, "save_run_outcome", stops)
        line = stopped(words)
    assert "finished work is kept, resume with: " in line and "--fresh" not in line
    done = (out / "responses.jsonl").read_bytes()
    assert main(resumed(line)) == 0 and load_run(out).run["resumed"] == 1
    assert (out / "responses.jsonl").read_bytes() == done and load_run(out).run["seed"] == 2


def test_of_several_runs_those_that_were_not_reached_are_named(bench, stopped, monkeypatch, tmp_path: Path) -> None:
    words = f"eval --model majority,random --bench {bench.path} --out {tmp_path} --limit 2 --quiet"
    assert main(shlex.split(words)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(several, "evaluate", lambda options, *rest: (iit.evaluate if options.model == "majority" else stops)(options, *rest))
        line = stopped(f"{words} --fresh")
    assert line == (
        f"iit-bench: interrupted; finished work is kept, and --fresh has not reached {str(tmp_path / 'random')!r}: remove that, and resume "
        f"with: iit-bench {words}"
    )
    shutil.rmtree(tmp_path / "random")
    assert main(resumed(line)) == 0 and load_run(tmp_path / "random").results.complete


def test_arms_are_begun_anew_one_by_one(earlier, stopped, monkeypatch) -> None:
    out, _ = earlier
    words = f"arms {out} --arms blind,irrelevant --quiet"
    assert main(shlex.split(words)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(arms, "load_model", stops)
        line = stopped(f"{words} --fresh")
    assert line.endswith(f"; --fresh has begun no run anew yet; start again with: iit-bench {words} --fresh")
    with monkeypatch.context() as patch:
        patch.setattr(arms, "save_run_outcome", stops)
        line = stopped(f"{words} --fresh")
    left = [name for name in ("blind", "irrelevant") if (out / "arms" / name / "results.json").is_file()]
    assert len(left) == 1 and f"has not reached {str(out / 'arms' / left[0])!r}: remove that" in line


def test_an_error_says_to_resume_without_fresh_once_the_run_is_begun_anew(earlier, stopped) -> None:
    """It said to repeat the command: which would have lost what was answered."""
    out, words = earlier
    words = words.replace("--limit 2 ", "")
    most = (out / "run.json").stat().st_size + 2000  # the log has more in it than that
    with files_of_at_most(most):
        line = stopped(words, 2)
    assert line.endswith("free some space and repeat the command without --fresh to resume")
    assert load_run_header(out)["seed"] == 2 and not (out / "results.json").exists()
    assert main(shlex.split(words.replace(" --fresh", ""))) == 0 and load_run(out).run["resumed"] == 1
    with files_of_at_most(most):
        shutil.rmtree(out)
        line = stopped(words.replace(" --fresh", ""), 2)
    assert line.endswith("free some space and repeat the command to resume")


def test_of_several_processes_each_knows_the_run_that_the_first_has_begun_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "run.json").write_text('{"launch": "this"}')
    for launch, standing in (("this", ([tmp_path], [])), ("other", ([], [tmp_path]))):
        monkeypatch.setenv(LAUNCH, launch)
        anew.note(lambda: [tmp_path, tmp_path / "none"])
        assert anew.standing() == standing
    anew.forget()


def test_what_failed_for_reasons_of_the_machine_is_resumed_without_fresh(earlier, monkeypatch, capsys) -> None:
    out, words = earlier
    with monkeypatch.context() as patch:
        patch.setattr(RandomModel, "score", gone)
        for more, said in ((words, "repeat the command without --fresh to resume"), (words[:-8], "repeat the command to resume")):
            assert main(shlex.split(more)) == 1
            assert said in capsys.readouterr().out
    assert main(shlex.split(words[:-8])) == 0 and load_run(out).results.complete


def gone(*_: Any) -> Any:
    raise MachineError("server gone", "refused")

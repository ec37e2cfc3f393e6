"""Exit codes of every command (docs/how-to/resume-and-repeat.md): 0 whole, 1 items failed, 2 refused, 70 a bug, 130 interrupted."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iit_bench.cli import main
from iit_bench.cli.commands import COMMANDS
from iit_bench.errors import UserError

# Command → (the function behind it, words).
BEHIND: dict[str, tuple[str, str]] = {
    "demo": ("iit_bench.workflows.demo:demo", "--out x"),
    "build": ("builders.build:build", "--out x"),
    "export": ("builders.export.export:export", "bench --to lm-eval --out x"),
    "fetch": ("evaluators.fetch.fetch:fetch", "wings-text --data-root x"),
    "eval": ("evaluators.iit.evaluate:evaluate", "--model random --bench bench --out x"),
    "arms": ("evaluators.arms.evaluate:arms", "run"),
    "attention": ("evaluators.attention.observe:observe_run", "run"),
    "plan": ("evaluators.compare.planning:plan", "--difference 0.02 --discordance 0.1"),
    "watch": ("iit_bench.workflows.several:watch", "folder --bench bench --out x"),
    "submit": ("iit_bench.workflows.submitting:submit", "eval --model random --bench bench --out x"),
    "merge": ("iit_bench.workflows.merging:merge", "run"),
    "report": ("reports.leaderboard:report", "run --out x"),
    "compare": ("evaluators.compare.runs:comparisons", "a b"),
    "show": ("evaluators.show.show:show", "run"),
    "diff": ("evaluators.show.show:diff", "a b"),
    "explain": ("evaluators.explain.explain:explain", "a b"),
    "train": ("iit_bench.training.train:run", "lab --out x"),
    "lab": ("iit_bench.lab.run:Experiment", "quick --out x"),
    "verify": ("iit_bench.workflows.verifying:verify", "folder"),
    "list": ("iit_bench.cli.listing:listing", "models"),
}
RAISED = {2: UserError("it is refused"), 70: RuntimeError("a bug"), 130: KeyboardInterrupt()}


def test_every_command_is_tried() -> None:
    assert set(BEHIND) == set(COMMANDS)


@pytest.mark.parametrize("code", RAISED)
@pytest.mark.parametrize("command", BEHIND)
def test_a_command_that_is_refused_has_a_bug_or_is_interrupted_says_so_by_its_code(
    command: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RAISED[code]

    monkeypatch.chdir(tmp_path)
    place, words = BEHIND[command]
    module, name = place.split(":")
    monkeypatch.setattr(importlib.import_module(module), name, fails)
    assert main([command, *words.split()]) == code
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert {2: "it is refused", 70: "internal error, RuntimeError: a bug", 130: "interrupted"}[code] in told


@pytest.mark.parametrize(("reasons", "code"), [({"no image": 3}, 0), ({"context overflow": 2}, 1)])
def test_attention_fails_where_dialogues_could_not_be_observed(reasons, code, monkeypatch, capsys, tmp_path) -> None:
    from evaluators.attention import observe, shift, summary
    from evaluators.attention.table import Observed
    from iit_bench.storage import runs

    known = {observe.NO_IMAGE if reason == "no image" else reason: n for reason, n in reasons.items()}
    monkeypatch.setattr(observe, "observe_run", lambda *_, **__: Observed({"not_observed": known}, []))
    monkeypatch.setattr(shift, "attention_figures", lambda _: SimpleNamespace())
    monkeypatch.setattr(summary, "summary_text", lambda *_: "")
    monkeypatch.setattr(runs, "load_run_header", lambda _: {"arguments": {}})
    assert main(["attention", str(tmp_path)]) == code
    assert main(["attention", str(tmp_path), "--allow-errors", "2"]) == 0
    monkeypatch.setattr(runs, "load_run_header", lambda _: {"arguments": {"allow_errors": 2}})
    assert main(["attention", str(tmp_path)]) == 0


@pytest.fixture(scope="module")
def asked(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that allowed one failed item, with arm reordered."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = f"eval --model random --bench {bench.path} --out {out} --limit 2 --style letters --allow-errors 1 --arms reordered --quiet"
    assert main(words.split()) == 0
    return out


@pytest.mark.parametrize(
    ("errors", "words", "code"),
    [(0, "", 0), (1, "", 0), (2, "", 1), (2, "--allow-errors 2", 0), (3, "--allow-errors 2", 1), (1, "--allow-errors 0", 1), (None, "", 1)],
)
def test_arms_fail_where_more_items_failed_than_are_allowed(errors, words, code, asked, monkeypatch, capsys) -> None:
    """As many as the run allowed, unless the command says otherwise; None: an arm that is not finished."""
    from evaluators.arms import evaluate
    from evaluators.arms.figures import arms_of
    from iit_bench.storage.runs import load_run

    def failed(one: Any) -> Any:
        if errors is None:
            return dataclasses.replace(one, run=None)
        results = dataclasses.replace(one.run.results, outcomes=one.run.results.outcomes | {"error": errors})
        return dataclasses.replace(one, run=dataclasses.replace(one.run, results=results))

    monkeypatch.setattr(evaluate, "arms", lambda *_, **__: tuple(map(failed, arms_of(load_run(asked)))))
    assert main(["arms", str(asked), *words.split()]) == code
    assert "reordered" in capsys.readouterr().out


@pytest.mark.parametrize(("states", "code"), [(("done", "left"), 0), (("done", "failed"), 1)])
def test_a_lab_with_a_failed_cell_fails(states, code, monkeypatch, capsys, tmp_path) -> None:
    from iit_bench.lab.run import Experiment, Standing

    monkeypatch.setattr(Experiment, "run", lambda *_, **__: None)
    monkeypatch.setattr(Experiment, "standing", lambda self: Standing(states=tuple(zip(self.plan, states, strict=False)), seconds=None))
    assert main(["lab", "quick", "--out", str(tmp_path)]) == code


@pytest.mark.parametrize(("errors", "code"), [(0, 0), (1, 1)])
def test_a_demo_with_a_failed_item_fails(errors, code, monkeypatch, capsys, tmp_path) -> None:
    from evaluators.runs import reading
    from iit_bench.workflows import demo

    old = reading.load_run(Path(__file__).parents[1] / "data" / "run_version_2" / "base")
    results = dataclasses.replace(old.results, outcomes=old.results.outcomes | {"error": errors})
    monkeypatch.setattr(demo, "demo", lambda *_, **__: tmp_path)
    monkeypatch.setattr(reading, "load_run", lambda _: SimpleNamespace(results=results))
    assert main(["demo", "--out", str(tmp_path)]) == code


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        "report {} --out x",
        "eval --model random --bench {} --out x",
        "compare {} {}",
        "train {} --out x",
        "merge {}",
        "show {}",
        "export {} --to lm-eval --out x",
    ],
)
def test_a_path_that_no_system_takes_is_refused(words: str, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.replace("{}", LONG).split()) == 2
    assert "File name too long" in capsys.readouterr().err

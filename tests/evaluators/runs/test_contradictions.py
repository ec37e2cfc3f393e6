"""A results.json whose seal is right and whose figures its own predictions or items contradict is refused by every reader."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.runs.contradictions import agreeing
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.statistics import mean
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.runs import Run
from iit_bench.types import Results, SuiteResults, TaskItem, TaskResult
from iit_bench.workflows.verifying import verify
from tests.changed_numbers import as_json, changed_numbers, unnoticed
from tests.resealed import change


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bench: Any) -> Path:
    """A run of model random under own history, with what it forgot against another seed."""
    place = tmp_path_factory.mktemp("runs")
    shared: dict[str, Any] = {"model": "random", "bench": bench.path, "tiers": ("T", "VT"), "history": "own", "limit": 4}
    evaluate(RunOptions(out=place / "base", seed=1, **shared), progress=False)
    evaluate(RunOptions(out=place / "run", seed=2, base=place / "base", **shared), progress=False)
    return place / "run"


def test_no_changed_figure_of_a_run_is_read(folder: Path) -> None:
    run = load_run(folder, "iit")
    own = {name: value for name, value in as_json(run.results).items() if name != "forgetting"}
    assert own["positions"] and own["interleaving"]
    assert len(list(changed_numbers(own))) > 300 and unnoticed(run, Results, own) == []


def test_no_changed_figure_of_forgetting_is_read_where_the_base_run_is_there(folder: Path) -> None:
    run = load_run(folder, "iit")
    forgetting = as_json(run.results)["forgetting"]
    assert len(list(changed_numbers(forgetting))) > 100
    assert unnoticed(run, Results, {"forgetting": forgetting}) == []


def alone(folder: Path, to: Path) -> Path:
    """A copy of a run whose base is not there."""
    shutil.copytree(folder, to / "run")
    change(to / "run" / "run.json", lambda body: body["arguments"].update(base=str(to / "base")))
    return to / "run"


def test_verify_says_whether_the_base_run_is_there_as_it_was(folder: Path, tmp_path: Path) -> None:
    def line(of: Path) -> str:
        (found,) = verify([of])
        assert found.whole
        return found.line()

    assert "unavailable" not in line(folder)
    copied = alone(folder, tmp_path)
    assert "run, whole, base unavailable (" in line(copied)
    shutil.copytree(folder.with_name("base"), tmp_path / "base")
    assert "unavailable" not in line(copied)
    change(tmp_path / "base" / "run.json", ended="2999-01-01T00:00:00+00:00")  # evaluated again since: its figures may be others
    assert "base unavailable" in line(copied)


def test_forgetting_that_the_base_run_contradicts_is_refused(folder: Path, tmp_path: Path) -> None:
    copied = alone(folder, tmp_path)
    change(copied / "results.json", lambda body: body["forgetting"]["retention"].update(value=0.123))
    assert load_run(copied, "iit").results.forgetting.retention.value == 0.123  # nothing says otherwise
    shutil.copytree(folder.with_name("base"), tmp_path / "base")
    said = r"says forgetting\.retention\.value = 0\.123, and by its predictions\.parquet, that of base run 'base' and errors"
    with pytest.raises(UserError, match=said):
        load_run(copied, "iit")
    (found,) = [one for one in verify([copied]) if not one.whole]
    assert "forgetting.retention.value" in found.faults[0].detail


def test_figures_of_forgetting_that_contradict_one_another_are_refused(folder: Path, tmp_path: Path) -> None:
    run = load_run(alone(folder, tmp_path), "iit")
    forgetting = as_json(run.results)["forgetting"]
    found = unnoticed(run, Results, {"forgetting": forgetting})
    tested = ("acc.value", "acc.n", "difference.value", "difference.n", ".only_a", ".only_b")
    assert found and not [place for place in found if ".counts." in place or place.endswith(tested)]


@pytest.mark.parametrize("command", ["compare", "show", "report", "export"])
def test_every_command_refuses_it_in_one_sentence(
    command: str, run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, other = (
        run(RandomModel("random", ModelOptions(seed=1)), out="changed").path,
        run(RandomModel("random", ModelOptions(seed=2))).path,
    )
    change(changed / "results.json", lambda body: body["tiers"][0]["outcomes"].update(correct=body["tiers"][0]["outcomes"]["correct"] + 1))
    out = ["--out", str(tmp_path / "out")]
    more = {"compare": [str(other)], "report": out, "export": ["--to", "csv", *out]}.get(command, [])
    assert main([command, str(changed), *more]) == 2
    said = capsys.readouterr().err
    assert "says tiers.T.outcomes.correct = " in said and "repeat its command" in said and said.count("\n") <= 2
    (found,) = verify([changed])
    assert not found.whole and "tiers.T.outcomes.correct" in str(found.faults)


def test_intervals_that_an_earlier_version_computed_otherwise_are_made_anew(folder: Path) -> None:
    run = load_run(folder, "iit")
    tier = run.results.tiers[0]
    wider = dataclasses.replace(tier, acc=dataclasses.replace(tier.acc, low=0.0, high=1.0, method="another"))
    other = dataclasses.replace(run, results=dataclasses.replace(run.results, tiers=(wider, *run.results.tiers[1:])))
    assert agreeing(other).results == run.results


def suite_run(folder: Path) -> Any:
    """A run of suite text with two tasks and a group, the second with a document that failed."""
    items = [
        TaskItem(task, str(i), str(i), "acc", float(i % 3 == 0), "correct" if i % 3 == 0 else "wrong", "")
        for task in "ab"
        for i in range(7)
    ]
    items[-1] = dataclasses.replace(items[-1], score=0.0, outcome="error")
    counts = {"correct": 3, "wrong": 4, "unparsed": 0, "truncated": 0, "error": 0}
    each = {"a": counts, "b": counts | {"correct": 2, "error": 1}}
    of = {task: [item.score for item in items if item.task == task] for task in "ab"}
    tasks = [
        TaskResult(
            task=task, metric="acc", scores={"acc": mean(of[task], range(7))}, outcomes=each[task], metric_outcomes={"acc": each[task]}
        )
        for task in "ab"
    ]
    whole = mean([*of["a"], *of["b"]], range(14))
    total = {name: each["a"][name] + each["b"][name] for name in counts}
    tasks.append(TaskResult(task="g", metric="acc", scores={"acc": whole}, outcomes=total, members=("a", "b")))
    results = SuiteResults(suite="text", complete=True, outcomes=total, tasks=tuple(tasks))
    return Run(path=folder, run={"suite": "text", "command": "repeat"}, results=results, foreign_items=items)


def test_no_changed_count_or_mean_of_a_task_is_read(tmp_path: Path) -> None:
    run = suite_run(tmp_path)
    found = unnoticed(run, SuiteResults, {name: value for name, value in as_json(run.results).items() if name in ("tasks", "outcomes")})
    assert not [place for place in found if "outcomes" in place or place.endswith((".value", ".n"))], found
    with pytest.raises(UserError, match=r"says complete = False"):
        agreeing(dataclasses.replace(run, results=dataclasses.replace(run.results, complete=False)))

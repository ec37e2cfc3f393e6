"""Cells of the page that were wrong and are right now, one test per reported fault: counts of outcomes, detectable differences."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.runs.outcomes import count_outcomes
from evaluators.statistics import codes, mean
from iit_bench.storage.runs import load_run
from iit_bench.types import Figure
from reports.cells import PAIRED_COLUMNS, paired_cells
from tests.resealed import save_run_outcome

MakeSuiteRun = Callable[..., Path]
page_of: Any = runpy.run_path(str(Path(__file__).with_name("test_leaderboard.py")))["page_of"]


def test_each_metric_of_a_task_shows_its_own_counts(make_suite_run: MakeSuiteRun, tmp_path: Path) -> None:
    """Lines of secondary metrics repeated the correct and wrong counts of the main metric."""
    folder = make_suite_run("text", "a", {"arc_easy": 0.5}, n=10)
    run = load_run(folder, "text")
    (task,) = run.results.tasks
    others = [
        dataclasses.replace(item, metric="acc_norm", score=float(number > 0), outcome="correct" if number else "wrong")
        for number, item in enumerate(run.items)
    ]
    norm = mean([item.score for item in others], codes(item.cluster for item in others))
    scores = {**task.scores, "acc_norm": norm, "perplexity": Figure(7.5, n=10)}
    counts = {"acc": task.outcomes, "acc_norm": count_outcomes(others)}
    results = dataclasses.replace(run.results, tasks=(dataclasses.replace(task, scores=scores, metric_outcomes=counts),))
    save_run_outcome(folder, [*run.items, *others], results, run.errors)
    head, *rows = page_of([folder], tmp_path / "out").tables["scores-text"]
    correct = next(i for i, name in enumerate(head) if name.startswith("correct"))
    shown = {row[2]: row[correct : correct + 2] for row in rows}
    assert shown["acc_norm"] == ["9", "1"] and shown["perplexity"] == ["–", "–"]
    assert shown["acc"] == [str(task.outcomes["correct"]), str(task.outcomes["wrong"])]


def test_a_detectable_difference_of_few_pairs_shows_its_floor() -> None:
    """One discordant pair of 300: "at least 6 one way of 300" beside the difference, out of a field."""
    a = np.where(np.arange(300) < 1, 0, 1)
    result = statistics.paired(a, np.ones(300), np.arange(300), over="TT", against="T")
    place = next(i for i, column in enumerate(PAIRED_COLUMNS) if column.label == "detectable")
    cell = paired_cells(result)[place]
    assert cell.text.startswith("≥") and cell.lines == ("at least 6 one way of 300",)
    plain = paired_cells(dataclasses.replace(result, detectable_floor=None))[place]
    assert not plain.text.startswith("≥") and plain.lines == ()

"""The section on calibration: figures equal their recomputation from the run's table; what has no probabilities says why."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest

from evaluators.iit.probabilities import calibrations
from iit_bench.storage.runs import load_run, save_run_header, save_run_outcome
from reports.leaderboard import report
from tests.recompute_calibration import recompute
from tests.reports.conftest import MakeRun


def with_logprobs(folder: Path) -> Path:
    """The run with log-probabilities that choose what its predictions chose, and choices of several lengths."""
    run, draw, made = load_run(folder), random.Random(3), []
    for one in run.predictions:
        choices = tuple(f"{choice} {'x' * i}" for i, choice in enumerate(one.choices))
        if one.outcome == "error":
            made.append(dataclasses.replace(one, choices=choices))
            continue
        low = [-draw.uniform(4, 9) for _ in choices]
        logprobs = tuple(-draw.uniform(1, 4) if i == one.chosen else value for i, value in enumerate(low))
        per_character = [value / len(choice) for value, choice in zip(logprobs, choices, strict=True)]
        norm = per_character.index(max(per_character))
        made.append(dataclasses.replace(one, choices=choices, logprobs=logprobs, chosen_norm=norm))
    save_run_outcome(folder, made, run.results, run.errors)
    save_run_header(folder, {**run.run, "model": {**run.run["model"], "parameters": 7}})
    return folder


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_figures_equal_their_recomputation(make_run: MakeRun, metric: str) -> None:
    folder = with_logprobs(make_run("wings", 0.7, failed=1))
    found, expected = calibrations(load_run(folder), metric), recompute(folder, metric == "acc_norm")  # type: ignore[arg-type]
    assert found.keys() == expected.keys() == {"text", "visual", "all"}
    for pool, one in found.items():
        there = expected[pool]
        assert (one.accuracy.n, one.accuracy.value) == (there["n"], pytest.approx(there["accuracy"]))
        assert one.confidence == pytest.approx(there["confidence"]) and one.ece_plain == pytest.approx(there["ece_plain"])
        for figure, (value, low, high) in ((one.overconfidence, there["overconfidence"]), (one.brier, there["brier"])):
            assert figure.value == pytest.approx(value)
            if not there["shared"]:
                assert (figure.low, figure.high) == (pytest.approx(low), pytest.approx(high))


def test_page_shows_the_curve_and_the_table(make_run: MakeRun, tmp_path: Path) -> None:
    index = report([with_logprobs(make_run("wings", 0.7))], tmp_path / "report")
    page = (index.parent / "models" / "wings.html").read_text()
    assert "Its answers have a mean probability of " in page and "Brier score" in page and "calibration-heading" in page
    assert math.isfinite(float(page.split("mean probability of ")[1].split("%")[0]))


def test_a_server_that_does_not_name_its_parameters_has_probabilities(make_run: MakeRun, tmp_path: Path) -> None:
    folder = with_logprobs(make_run("server", 0.7))
    run = load_run(folder).run
    save_run_header(folder, {**run, "model": {**run["model"], "parameters": None}})
    page = (report([folder], tmp_path / "report").parent / "models" / "server.html").read_text()
    assert "Its answers have a mean probability of " in page and "a baseline chooses" not in page


def test_a_run_without_its_log_probabilities_is_no_obstacle(make_run: MakeRun, tmp_path: Path) -> None:
    folder = with_logprobs(make_run("wings", 0.7))
    run = load_run(folder)
    save_run_outcome(folder, [dataclasses.replace(one, logprobs=()) for one in run.predictions], run.results, run.errors)
    page = (report([folder], tmp_path / "report").parent / "models" / "wings.html").read_text()
    assert "has targets without a log-probability per choice" in page


def test_what_has_no_probabilities_says_why(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("generated", scoring="generate"), make_run("majority", model={"parameters": 0})]
    for run, why in zip(runs, ("replies were generated", "a baseline chooses without probabilities"), strict=True):
        index = report([run], tmp_path / run.name / "report")
        assert why in (index.parent / "models" / f"{run.name}.html").read_text()

"""The section on calibration: figures equal their recomputation from the run's table; what has no probabilities says why."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from pathlib import Path

import pytest

from evaluators.iit.columns import Metric, Turns
from evaluators.iit.probabilities import calibrations
from evaluators.statistics.calibration import Calibration
from iit_bench.storage.runs import load_run, save_run_header
from reports.leaderboard import report
from tests.recompute_calibration import check_calibration, main, recompute
from tests.recompute_figures import Check
from tests.reports.conftest import MakeRun
from tests.resealed import save_run_outcome


def with_logprobs(folder: Path, shared: bool = False) -> Path:
    """The run with log-probabilities that choose what its predictions chose, and choices of several lengths.

    `shared`: four targets have one history cluster.
    """
    run, draw, made = load_run(folder), random.Random(3), []
    for one in run.predictions:
        if shared and len(one.tier) > 1:
            one = dataclasses.replace(one, history_clusters=(f"{one.source}-{int(one.question.rpartition('/')[2]) // 4}",))
        choices = tuple(f"{choice} {'x' * i}" for i, choice in enumerate(one.choices))
        if one.outcome == "error":
            made.append(dataclasses.replace(one, choices=choices))
            continue
        low = [-draw.uniform(4, 9) for _ in choices]
        logprobs = tuple(-draw.uniform(1, 4) if i == one.chosen else value for i, value in enumerate(low))
        per_character = [value / len(choice) for value, choice in zip(logprobs, choices, strict=True)]
        norm = per_character.index(max(per_character))
        made.append(dataclasses.replace(one, choices=choices, logprobs=logprobs, chosen_norm=norm))
    save_run_header(folder, {**run.run, "model": {**run.run["model"], "parameters": 7}})
    save_run_outcome(folder, made, run.results, run.errors)
    return folder


def calibrated(folder: Path, metric: Metric) -> dict[str, Calibration]:
    run = load_run(folder, "iit")
    return calibrations(run, Turns.of_run(run), metric)


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
@pytest.mark.parametrize("shared", [False, True])
def test_figures_equal_their_recomputation(make_run: MakeRun, metric: Metric, shared: bool) -> None:
    folder = with_logprobs(make_run("wings", 0.7, failed=1), shared)
    found, expected, check = calibrated(folder, metric), recompute(folder, metric == "acc_norm"), Check()
    assert found.keys() == expected.keys() == {"text", "visual", "all"}
    for pool, one in found.items():
        check_calibration(check, pool, dataclasses.asdict(one), expected[pool])
    assert check.off == [] and check.compared > 200


@pytest.mark.oracle
def test_figures_that_are_off_are_found(make_run: MakeRun) -> None:
    folder = with_logprobs(make_run("wings", 0.7))
    stored, own = dataclasses.asdict(calibrated(folder, "acc")["all"]), recompute(folder, False)["all"]
    for end in ("value", "low", "high"):
        stored["ece"][end] += 0.03
    stored["bins"][3]["accuracy"]["low"] += 0.001
    stored["brier"]["high"] += 0.001
    check = Check()
    check_calibration(check, "all", stored, own)
    assert [line.split(":")[0] for line in check.off] == [
        "all bin 3 accuracy low",
        "all brier high",
        "all ece value",
        "all ece low",
        "all ece high",
    ]


@pytest.mark.oracle
def test_page_shows_the_curve_and_the_table_with_the_numbers_that_are_recomputed(make_run: MakeRun, tmp_path: Path, capsys) -> None:
    folder = with_logprobs(make_run("wings", 0.7), shared=True)
    path = report([folder], tmp_path / "report").parent / "models" / "wings.html"
    page = path.read_text()
    assert main([str(folder), str(path)]) == 0
    before, table = page.split('<table id="calibration-table"')
    number = re.search(r"\d\d\.\d", table[table.index("<tbody") :])
    assert number is not None
    path.write_text(f'{before}<table id="calibration-table"{table.replace(number[0], "12.3", 1)}')
    assert main([str(folder), str(path)]) == 1 and "1 off" in capsys.readouterr().out
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

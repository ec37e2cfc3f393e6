"""Figures of the suites' results.json against statsmodels and lm-eval, computed from nothing but the run folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.proportion import proportion_confint

from evaluators.text.evaluate import evaluate_text
from iit_bench.storage.runs import load_run

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(data_root, checkpoint, tmp_path_factory):
    from evaluators.runs.options import RunOptions

    out = tmp_path_factory.mktemp("figures") / "run"
    options = RunOptions(
        model=checkpoint, out=out, suite="text", tasks=("iit_facts", "arc_easy"), data_root=data_root, limit=30, device="cpu"
    )
    evaluate_text(options, progress=False)
    return load_run(out)


@pytest.fixture(scope="module")
def theirs(run):
    (file,) = (run.path / "lm_eval").rglob("results_*.json")
    return json.loads(file.read_text())["results"]


def scores_of(run, task, metric):
    return np.array([item.score for item in run.items if item.task == task and item.metric == metric])


def test_an_accuracy_has_wilsons_interval_and_lm_evals_standard_error(run, theirs):
    tasks = [one for one in run.results.tasks if one.task.startswith("iit_facts_")]
    assert len(tasks) == 6
    for one in tasks:
        for metric in ("acc", "acc_norm"):
            figure, x = one.scores[metric], scores_of(run, one.task, metric)
            assert (figure.low, figure.high) == pytest.approx(proportion_confint(x.sum(), len(x), method="wilson"), abs=1e-12)
            assert figure.se == pytest.approx(theirs[one.task][f"{metric}_stderr,none"], rel=1e-9)


def test_a_groups_accuracy_has_the_standard_error_of_a_regression_on_its_tasks(run, theirs):
    group = run.results.tasks[0]
    names = [one.task for one in run.results.tasks if one.task.startswith("iit_facts_")]
    parts = [scores_of(run, name, "acc") for name in names]
    y, task = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    design = np.eye(len(parts))[task]
    fit = sm.OLS(y, design).fit(cov_type="HC0")
    weights = np.array([len(part) for part in parts]) / len(y)
    se = float(np.sqrt(weights @ fit.cov_params() @ weights * len(y) / (len(y) - 1)))
    figure = group.scores["acc"]
    assert figure.value == pytest.approx(float(weights @ fit.params)) == pytest.approx(theirs["iit_facts"]["acc,none"])
    assert figure.se == pytest.approx(se, rel=1e-9)
    assert figure.low < figure.value < figure.high

"""Paired differences of text and VQA runs: over the same items, against scipy, and refused where they were not asked the same."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evaluators.compare.runs import comparisons
from evaluators.compare.tasks import compare_suites, differences, how_asked, shown_tasks
from evaluators.runs.outcomes import count_outcomes
from evaluators.statistics import paired_means
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun, load_run, save_run_header
from iit_bench.types import Figure, SuiteResults, TaskItem, TaskResult
from tests.resealed import save_run_outcome

pytestmark = pytest.mark.oracle

MODEL = {"name": "m", "checkpoint_sha256": "", "blind": False}
HEADER = {"model": MODEL, "arguments": {}, "limit": None, "system_prompt": "", "judge": "exact_matching", "command": "", "resumed": 0}


def scored(seed: int, level: float, n: int = 60) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).random(n) < level]


def run_of(name: str, scores: dict[str, list[float]], *, suite: str = "text", clusters: int = 0, **changes: Any) -> TaskRun:
    """A run whose items have these scores; the items of a task hang on `clusters` images, or each stands alone."""
    asked = {"n_shot": 0, "output_type": "multiple_choice", "documents_sha256": "d", "chance": {"acc": 0.25}} | changes.pop("asked", {})
    items, results = [], []
    for task, values in scores.items():
        mine = [
            TaskItem(task, str(i), str(i % clusters if clusters else i), "acc", x, "correct" if x == 1 else "wrong", "")
            for i, x in enumerate(values)
        ]
        figure = Figure(float(np.mean(values)), low=0.0, high=1.0, n=len(values), clusters=len(values), se=0.1, method="wilson")
        results.append(TaskResult(task=task, metric="acc", scores={"acc": figure}, outcomes=count_outcomes(mine), **asked))
        items += mine
    header = HEADER | {"name": name, "suite": suite} | changes
    figures = SuiteResults(suite=suite, complete=True, outcomes=count_outcomes(items), tasks=tuple(results))  # type: ignore[arg-type]
    return TaskRun(path=Path(name), run=header, results=figures, foreign_items=items)


# ---------------------------------------------------------------- differences


def test_differences_tests_and_holm_are_scipys() -> None:
    a = {task: scored(seed, level) for seed, (task, level) in enumerate({"piqa": 0.5, "arc": 0.7, "race": 0.9}.items())}
    b = {task: scored(seed + 10, 0.8) for seed, task in enumerate(a)}
    found, left_out = compare_suites(run_of("a", a), run_of("b", b))
    assert [one.result.over for one in found] == list(a) and not left_out
    p = []
    for one in found:
        x, y = np.array(a[one.result.over]), np.array(b[one.result.over])
        only = int(np.sum(x > y)), int(np.sum(x < y))
        assert (one.result.only_a, one.result.only_b) == only
        assert one.result.difference.value == pytest.approx(float(np.mean(x - y)))
        p.append(stats.binomtest(only[0], sum(only)).pvalue)
        assert one.result.p == pytest.approx(p[-1])
        assert one.retention.value == pytest.approx((y.mean() - 0.25) / (x.mean() - 0.25))
    order = np.argsort(p)
    steps = list(itertools.accumulate((min(1.0, (3 - rank) * p[i]) for rank, i in enumerate(order)), max))
    holm = dict(zip(order, steps, strict=True))
    assert [one.result.p_holm for one in found] == pytest.approx([holm[i] for i in range(3)])


def test_questions_over_one_image_are_one_cluster() -> None:
    a, b = {"MME": scored(1, 0.5)}, {"MME": scored(2, 0.5)}
    (one,), _ = compare_suites(run_of("a", a, suite="vqa", clusters=20), run_of("b", b, suite="vqa", clusters=20))
    assert one.result.difference.clusters == 20 and one.result.test == "cluster sign-flip"
    for sides in ((20, 0), (0, 20)):  # one side does not know the images
        runs = [run_of(name, scores, suite="vqa", clusters=n) for name, scores, n in zip("ab", (a, b), sides, strict=True)]
        (half,), _ = compare_suites(*runs)
        assert half.result == dataclasses.replace(one.result, over="MME")


def test_scores_that_are_not_0_or_1_are_compared_by_students_paired_t() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 1, 40), rng.normal(2.5, 1, 40)
    theirs = stats.ttest_rel(x, y)
    ours = paired_means(x, y, range(40), over="f1", against="b")
    interval = theirs.confidence_interval()
    assert (ours.p, ours.difference.low, ours.difference.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))
    (one,), _ = compare_suites(run_of("a", {"f1": list(x)}), run_of("b", {"f1": list(y)}))
    assert one.result.p == pytest.approx(theirs.pvalue) and one.result.test == "paired t"
    assert one.retention.value is None
    assert paired_means([1.5, 2.5], [0.5, 1.5], [0, 1], over="f1", against="b").difference.note == "no interval: the pairs do not vary"
    assert paired_means([], [], [], over="f1", against="b").difference.value is None


def test_the_interval_of_a_difference_does_not_leave_the_scale_of_the_scores() -> None:
    few, none = [1.0] * 7 + [0.6], [0.0] * 8
    free, cut = (paired_means(few, none, range(8), over="f1", against="b", **given) for given in ({}, {"largest": 1.0}))
    assert free.difference.high > 1 == cut.difference.high and (cut.difference.low, cut.p) == (free.difference.low, free.p)
    assert paired_means(none, few, range(8), over="f1", against="b", largest=1.0).difference.low == -1
    (one,), _ = compare_suites(run_of("a", {"f1": few}), run_of("b", {"f1": none}))
    assert one.best == 1 and one.result.difference.high == 1


def test_a_group_is_compared_over_the_items_of_its_tasks_and_is_a_family_of_its_own() -> None:
    a, b = ({"x": scored(seed, 0.6), "y": scored(seed + 1, 0.6)} for seed in (1, 3))
    runs = []
    for name, scores in (("a", a), ("b", b)):
        run = run_of(name, scores)
        asked = {"members": ("x", "y"), "n_shot": 0, "documents_sha256": "g"}
        group = TaskResult(task="g", metric="acc", scores={"acc": Figure(0.5, n=120)}, outcomes={}, **asked)
        results = SuiteResults(suite="text", complete=True, outcomes={}, tasks=(group, *run.results.tasks))
        runs.append(dataclasses.replace(run, results=results))
    found, _ = compare_suites(*runs)
    of = {one.result.over: one for one in found}
    assert of["g"].group and of["g"].result.difference.n == 120 and of["g"].result.p_holm == of["g"].result.p
    assert [one.member for one in found] == [False, True, True]
    smaller = min(of["x"].result, of["y"].result, key=lambda result: result.p)
    assert smaller.p_holm == min(1.0, 2 * smaller.p)
    difference = np.mean(a["x"] + a["y"]) - np.mean(b["x"] + b["y"])
    assert of["g"].result.difference.value == pytest.approx(difference)
    assert of["g"].retention.value == pytest.approx((np.mean(b["x"] + b["y"]) - 0.25) / (np.mean(a["x"] + a["y"]) - 0.25))


def test_leaderboards_show_the_outermost_groups_and_the_tasks_in_none() -> None:
    inside = {"mmlu": "abc", "mmlu_stem": "ab", "other": "cd", "alone": ""}
    results = [TaskResult(task=task, metric="acc", scores={}, outcomes={}, members=tuple(members)) for task, members in inside.items()]
    results += [TaskResult(task=task, metric="acc", scores={}, outcomes={}) for task in "abcd"]
    assert [result.task for result in shown_tasks(results)] == ["mmlu", "other", "alone"]


# ---------------------------------------------------------------- what is not compared


def test_tasks_that_cannot_be_compared_are_left_out_with_the_reason() -> None:
    a = run_of("a", {"both": scored(1, 0.5), "mine": scored(2, 0.5)})
    b = run_of("b", {"both": scored(3, 0.5), "theirs": scored(4, 0.5)})
    found, left_out = compare_suites(a, b)
    assert [one.result.over for one in found] == ["both"]
    assert left_out == {"mine": "'b' did not run it", "theirs": "'a' did not run it"}


def test_other_items_are_no_pairs() -> None:
    a, b = run_of("a", {"x": scored(1, 0.5)}, asked={"documents_sha256": ""}), run_of("b", {"x": scored(2, 0.5)})
    b.items[3] = TaskItem("x", "another", "3", "acc", 1.0, "correct", "")
    with pytest.raises(UserError, match=r"have no task that can be compared \(x: no scores by item on both sides\)"):
        compare_suites(a, b)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"fewshot_seed": 0}, {"fewshot_seed": 1234}, False),
        ({"fewshot_seed": 1234}, {}, True),
        ({"fewshot_seed": None}, {}, False),
        ({"gen_kwargs": "temperature=0.70,do_sample=True"}, {"gen_kwargs": "do_sample=true,temperature=0.7"}, True),
        ({"gen_kwargs": "temperature=0.7"}, {"gen_kwargs": "temperature=0.8"}, False),
    ],
)
def test_settings_are_distinguished_by_what_they_mean(a, b, same) -> None:
    asked = {"n_shot": 2, "output_type": "generate_until"}
    one, other = (run_of("m", {"x": scored(1, 0.5)}, asked=asked, **changes) for changes in (a, b))
    assert (differences(how_asked(one, one.results.tasks[0]), how_asked(other, other.results.tasks[0])) == []) is same


def test_vqa_runs_with_other_image_settings_are_not_subtracted() -> None:
    """compare accepted runs whose images were resized to other limits; right: they are asked differently."""
    asked = {"suite": "vqa", "processor_kwargs": {"max_pixels": 1024}}
    one, same, other = (run_of("m", {"x": scored(1, 0.5)}, **how) for how in (asked, asked, {"suite": "vqa"}))
    ways = [how_asked(run, run.results.tasks[0]) for run in (one, same, other)]
    assert differences(ways[0], ways[1]) == []
    assert differences(ways[0], ways[2]) == ["image settings (max_pixels=1024 and none)"]
    assert "image settings" in ways[2].usual and "image settings" not in ways[0].usual


def test_runs_asked_differently_and_of_other_suites_are_refused() -> None:
    a = run_of("a", {"x": scored(1, 0.5)})
    with pytest.raises(UserError, match=r"x: asked differently: limit \(none and 4\), chat template \(no and yes\)"):
        compare_suites(a, run_of("b", {"x": scored(1, 0.5)}, limit=4, apply_chat_template=True))
    with pytest.raises(UserError, match="one is of suite text and one of vqa"):
        compare_suites(a, run_of("b", {"x": scored(1, 0.5)}, suite="vqa"))


# ---------------------------------------------------------------- the command


def save(run: TaskRun, folder: Path) -> Path:
    save_run_header(folder, run.run)
    save_run_outcome(folder, run.items, run.results, [])
    return folder


def test_compare_prints_a_table_and_json(tmp_path, capsys) -> None:
    a = save(run_of("tuned", {"piqa": scored(1, 0.5), "arc": scored(2, 0.9)}), tmp_path / "a")
    b = save(run_of("base", {"piqa": scored(3, 0.9)}), tmp_path / "b")
    (found,), _ = compare_suites(load_run(a), load_run(b))
    assert main(["compare", str(a), str(b)]) == 0
    shown = capsys.readouterr().out
    assert "A = tuned minus B = base" in shown and f"{100 * found.result.difference.value:+.1f}" in shown
    assert "Left out: arc: 'base' did not run it." in shown
    assert main(["compare", str(a), str(b), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["suite"], told["a"], told["b"]) == ("text", "tuned", "base")
    assert told["results"][0]["result"]["difference"]["value"] == found.result.difference.value


def test_compare_goes_suite_by_suite_and_refuses_what_shares_none(tmp_path, capsys) -> None:
    for side, seed in (("a", 1), ("b", 2)):
        save(run_of(side, {"piqa": scored(seed, 0.5)}), tmp_path / side / "text")
        save(run_of(side, {"MME": scored(seed, 0.5)}, suite="vqa"), tmp_path / side / "vqa")
    assert [one.suite for one in comparisons(tmp_path / "a", tmp_path / "b")] == ["text", "vqa"]
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    assert [one["suite"] for one in json.loads(capsys.readouterr().out)["suites"]] == ["text", "vqa"]
    assert main(["compare", str(tmp_path / "a" / "text"), str(tmp_path / "b" / "vqa")]) == 2
    assert "compare runs of the same suite" in capsys.readouterr().err
    save(run_of("c", {"piqa": scored(5, 0.5)}), tmp_path / "a" / "more")
    assert main(["compare", str(tmp_path), str(tmp_path / "b")]) == 2
    assert "holds several runs of suite text; name one of them" in capsys.readouterr().err

"""Gap, parts and interval by the project's independent script, and the interval's coverage by simulation."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators.explain.explain import explain, figure_of
from evaluators.explain.missing import over_all_items
from evaluators.explain.sides import Answer, AskedTask
from evaluators.explain.split import INTERACTION, TaskSplit, split
from evaluators.statistics import paired

RECOMPUTED = runpy.run_path(str(Path(__file__).parents[2] / "recompute_explain.py"))["recomputed"]
FIRST = "exact_match,first"


PLANTED = (
    {"num_fewshot": 3},
    {"limit": 25, "num_fewshot": 3},
    {"gen_kwargs": "max_gen_toks=1", "limit": 40},
    {"apply_chat_template": False},
)


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize("planted", PLANTED)
def test_parts_are_those_of_the_independent_script(planted, lm_eval):
    a, b = lm_eval("words"), lm_eval("words", **planted)
    found, again = explain([a, b]), RECOMPUTED(a, b, FIRST)
    parts = {part.name: part for part in found.parts}
    others = [part for name, part in parts.items() if name not in ("items", "truncation", "extraction", INTERACTION)]
    assert found.gap.value == pytest.approx(again["gap"])
    assert [parts[name].size.value for name in ("items", "truncation")] == pytest.approx([again["items"], again["truncation"]])
    assert sum(part.size.value for part in others) == pytest.approx(again["other"])
    largest = max(others, key=lambda part: abs(part.size.value))
    if again["interval"]:
        assert (largest.size.low, largest.size.high) == pytest.approx(again["interval"])
        assert largest.size.n == again["n"]


def task(rng: np.random.Generator, name: str, rates: tuple[float, float], clusters: int, size: int) -> tuple[AskedTask, AskedTask]:
    """Two sides of a task whose items come in clusters that answer alike half of the time; only their prompts differ."""
    sides = []
    shared = rng.random((clusters, 1))
    alike = rng.random((clusters, size)) < 0.5
    draws = np.where(alike, np.broadcast_to(shared, (clusters, size)), rng.random((clusters, size)))
    for rate in rates:
        right = (draws < rate).astype(float)
        answers = {
            f"{c}/{i}": Answer(score=right[c, i], scores={"acc": right[c, i]}, cluster=f"{name}/{c}", reply=str(right[c, i]))
            for c in range(clusters)
            for i in range(size)
        }
        settings = {
            "prompt": {"system prompt": str(rate)},
            **{cause: {"known": "equal"} for cause in ("template", "decoding", "weights", "dtype")},
        }
        sides.append(AskedTask(name=name, metric="acc", rules={"acc": "one"}, answers=answers, settings=settings))  # type: ignore[arg-type]
    return sides[0], sides[1]


def test_of_one_task_the_interval_is_that_of_paired_differences():
    a, b = task(np.random.default_rng(1), "one", (0.7, 0.55), 40, 3)
    pairs = [
        (a.answers[item].score, b.answers[item].score, codes[a.answers[item].cluster]) for codes in [numbered(a)] for item in a.answers
    ]
    expected = paired(*(np.array(column) for column in zip(*pairs, strict=True)), over="", against="").difference
    figure = figure_of("prompt", [(split(a, b),)])
    assert (figure.value, figure.low, figure.high) == pytest.approx((expected.value, expected.low, expected.high))


def numbered(side: AskedTask) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(answer.cluster for answer in side.answers.values()))}


@pytest.mark.slow
def test_the_interval_of_a_part_covers_its_true_size_in_95_of_100_simulations():
    """Monte-Carlo error of 600 simulations at .95: .009; the bounds are two of it below, and leave room for discreteness above."""
    rng = np.random.default_rng(0)
    truth, hits, n = ((0.7 - 0.55) + (0.5 - 0.45)) / 2, 0, 600
    for _ in range(n):
        step = tuple(split(*task(rng, name, rates, 30, 3)) for name, rates in (("one", (0.7, 0.55)), ("two", (0.5, 0.45))))
        figure = figure_of("prompt", [step])
        assert figure.low is not None and figure.high is not None
        hits += figure.low <= truth <= figure.high
    assert 0.932 <= hits / n <= 0.985, hits / n


def without(side: AskedTask, rng: np.random.Generator, share: float) -> AskedTask:
    """Some items are not there, at random."""
    return replace(side, answers={item: answer for item, answer in side.answers.items() if rng.random() >= share})


def with_missing(rng: np.random.Generator) -> tuple[TaskSplit, ...]:
    """Two tasks, of one of which A lacks items, and of the other B."""
    (a, b), (c, d) = (task(rng, name, rates, 30, 3) for name, rates in (("one", (0.7, 0.55)), ("two", (0.5, 0.45))))
    return split(without(a, rng, 0.4), b), split(c, without(d, rng, 0.2))


def test_over_the_items_of_one_side_the_interval_is_welchs_where_nothing_is_shared():
    """Two sides without a common item are two samples: the variance is the sum of the means' own, by scipy."""
    rng = np.random.default_rng(2)
    a, b = task(rng, "one", (0.7, 0.55), 60, 1)
    first = {item: answer for item, answer in a.answers.items() if int(item.split("/")[0]) < 25}
    last = {item: answer for item, answer in b.answers.items() if int(item.split("/")[0]) >= 25}
    of_a, of_b = ([answer.score for answer in side.values()] for side in (first, last))
    figure = over_all_items(
        [(split(replace(a, answers=first), replace(b, answers=last)),)], np.mean(of_a) - np.mean(of_b), of_missing=False
    )
    expected = sum(np.var(side, ddof=0) / len(side) for side in (of_a, of_b)) * 60 / 59
    assert figure.se == pytest.approx(float(expected) ** 0.5)
    assert figure.n == 60 and figure.low is not None


@pytest.mark.slow
def test_gap_and_missing_items_are_covered_in_95_of_100_simulations():
    """4000 simulations gave .940 and .95; Monte-Carlo error of 400 at .94: .012, and the bounds are three of it away."""
    rng = np.random.default_rng(1)
    truth, n = ((0.7 - 0.55) + (0.5 - 0.45)) / 2, 400
    hits = {"gap": 0, "items": 0}
    for _ in range(n):
        step = with_missing(rng)
        gap = over_all_items([step], sum(one.gap for one in step) / 2, of_missing=False)
        items = figure_of("items", [step])
        for name, figure, true in (("gap", gap, truth), ("items", items, 0.0)):
            assert figure.low is not None and figure.high is not None
            hits[name] += figure.low <= true <= figure.high
    assert all(0.905 <= hit / n <= 0.985 for hit in hits.values()), hits

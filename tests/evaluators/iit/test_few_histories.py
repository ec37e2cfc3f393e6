"""When histories are too few for an early decision (docs/spec/iit.md#decided-runs)."""

from __future__ import annotations

import itertools

import pytest

from evaluators.iit.deciding import served_per_target, too_few_histories
from evaluators.iit.turns import Course
from iit_bench.types import Dialogue, Question


def question(name: str, cluster: str) -> Question:
    return Question(
        id=name, modality="T", source="facts", subject="", cluster=cluster, language="en", question="?", images=(), choices=("a", "b"),
        answer=0, answer_text="a",
    )  # fmt: skip


def courses(n: int, histories: int, tier: str = "TT") -> list[Course]:
    """n targets, each without a history and with one, in turn of so many clusters."""
    made = []
    for i, of in itertools.product(range(n), ("T", tier)):
        turns = (question(f"h{i}", f"history {i % histories}"),) * (len(of) - 1) + (question(f"t{i}", f"target {i}"),)
        names = tuple(turn.id for turn in turns)
        made.append(Course(Dialogue(id=f"{of}:t{i}", tier=of, visual_share=0.0, group=f"t{i}", turns=names, target=f"t{i}"), turns))
    return made


def test_forty_nine_history_clusters_of_300_targets_are_too_few() -> None:
    """The case that the spec gives: up to 12 % of the decisions would be false."""
    why = too_few_histories(courses(300, 49))
    assert why.startswith("49 history clusters serve 300 independent targets, up to 7 each")
    assert "a history cluster of a target serves 6.1 targets; 3 may be" in why


@pytest.mark.parametrize(("histories", "enough"), [(300, True), (150, True), (100, True), (90, False), (20, False), (1, False)])
def test_a_history_may_serve_three_targets_on_average(histories: int, enough: bool) -> None:
    assert (too_few_histories(courses(300, histories)) == "") == enough


def test_targets_without_histories_are_enough() -> None:
    assert too_few_histories(courses(300, 1, tier="T")) == ""


def test_a_target_that_has_one_history_in_two_turns_counts_once() -> None:
    assert too_few_histories(courses(300, 150, tier="TTT")) == ""


def test_the_average_is_over_targets_and_not_over_histories() -> None:
    assert served_per_target([1, 1, 1, 9]) == (1 + 1 + 1 + 81) / 12
    assert served_per_target([]) == 1.0

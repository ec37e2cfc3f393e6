"""The forgetting ledger: transitions of items, their rates, and the correction for lucky guesses."""

from __future__ import annotations

import pytest

from evaluators.iit.columns import Turns
from evaluators.iit.ledger import transitions
from iit_bench.errors import UserError
from tests.evaluators.conftest import Predict


def test_every_turn_that_both_finished_is_lost_kept_gained_or_never_had(predict: Predict) -> None:
    outcomes = {"a": ("correct", "wrong"), "b": ("correct", "correct"), "c": ("unparsed", "correct"), "d": ("wrong", "unparsed")}
    outcomes |= {"e": ("correct", "error"), "f": ("error", "correct")}
    base, run = (Turns.of(predict("TT", target, both[side]) for target, both in outcomes.items()) for side in (0, 1))  # type: ignore[arg-type]
    expected = {"a": "lost", "b": "kept", "c": "gained", "d": "never"}
    assert transitions(run, base) == {(f"{target}/TT", 1): what for target, what in expected.items()}


def test_history_turns_that_both_scored_have_transitions_too(predict: Predict) -> None:
    base = Turns.of([predict("TT", "a", "correct", position=0), predict("TT", "a", "wrong")])
    run = Turns.of([predict("TT", "a", "wrong"), predict("TT", "a", "wrong", position=0), predict("VT", "a", "wrong")])
    assert transitions(run, base) == {("a/TT", 0): "lost", ("a/TT", 1): "never"}


def test_transitions_of_other_questions_are_refused(predict: Predict) -> None:
    with pytest.raises(UserError, match="asks another question"):
        transitions(Turns.of([predict("T", "a", choices=3)]), Turns.of([predict("T", "a")]))

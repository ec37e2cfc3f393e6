"""Fixtures of the evaluators' tests."""

from collections.abc import Callable

import pytest

from iit_bench.types import Outcome, Prediction

Predict = Callable[..., Prediction]


@pytest.fixture
def predict() -> Predict:
    """A prediction of one turn from a tier, a target and an outcome; everything else has a plain default.

    The chosen index is the answer (0) for "correct", 1 for "wrong", -1 otherwise, under all three metrics unless told.
    """

    def make(
        tier: str,
        target: str,
        outcome: Outcome = "correct",
        *,
        position: int | None = None,
        cluster: str = "",
        source: str = "facts",
        subject: str = "capital",
        choices: int = 4,
        norm: int | None = None,
        in_bytes: int | None = None,
    ) -> Prediction:
        at = len(tier) - 1 if position is None else position
        is_target = at == len(tier) - 1
        chosen = {"correct": 0, "wrong": 1, "unparsed": -1, "error": -1}[outcome]
        return Prediction(
            dialogue=f"{target}/{tier}",
            position=at,
            is_target=is_target,
            tier=tier,
            group=target,
            question=target if is_target else f"{target}/{tier}/{at}",
            source=source,
            subject=subject,
            cluster=cluster or f"cluster of {target}",
            modality="V" if tier[at] == "V" else "T",
            choices=tuple("abcdefgh"[:choices]),
            answer=0,
            logprobs=(),
            choice_tokens=(),
            chosen=chosen,
            chosen_norm=chosen if norm is None else norm,
            chosen_bytes=chosen if in_bytes is None else in_bytes,
            outcome=outcome,
            reply="",
            prompt_tokens=1,
            reply_tokens=1,
        )

    return make

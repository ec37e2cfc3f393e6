"""Answers that cannot be are their items' errors, whichever way they come; none of them enters the log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Failure, answer
from iit_bench.models.contract import GenerateRequest, GenerateResult, ScoreResult
from iit_bench.types import Message

WAYS = {"here": {}, "a server": {"requests_at_once": 2}, "batches": {"in_bulk": True}}
SCORES = {
    "positive": ScoreResult((-1.0, 0.5), (1, 1), (False, True), 4),
    "no number": ScoreResult((-1.0, float("nan")), (1, 1), (False, True), 4),
    "endless": ScoreResult((float("-inf"), -1.0), (1, 1), (False, True), 4),
    "too few": ScoreResult((-1.0,), (1,), (False,), 4),
    "a column too few": ScoreResult((-1.0, -2.0), (1,), (False, True), 4),
    "a reply": GenerateResult("Paris", 4, 1),
}


@pytest.mark.parametrize("way", ["here", "a server"])
@pytest.mark.parametrize("case", SCORES)
def test_scores_that_cannot_be(way, case, company_model, ask, tmp_path):
    model = company_model()
    model.capabilities = replace(model.capabilities, **WAYS[way])
    right = model.score
    model.score = lambda batch: [SCORES[case] if "bad" in one.messages[0].text else right([one])[0] for one in batch]
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        found = answer(model, [ask("good"), ask("bad")], log, BatchLimits(1, 10**9)).answers
        assert isinstance(found[0], ScoreResult) and isinstance(found[1], Failure) and found[1].kind == "item"
        assert list(log.responses.values()) == [found[0]]


@pytest.mark.parametrize("way", WAYS)
def test_scores_where_a_reply_was_asked_for(way, company_model, tmp_path):
    model = company_model()
    model.capabilities = replace(model.capabilities, **WAYS[way])
    right = GenerateResult("Paris", 4, 1)

    def generate(batch):
        return [SCORES["positive"] if "bad" in one.messages[0].text else right for one in batch]

    def answer_in_bulk(requests, state, settle):
        settle({key: generate([one])[0] for key, one in requests.items()})
        return {}

    model.generate, model.answer_in_bulk = generate, answer_in_bulk
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        asked = [GenerateRequest((Message("user", (text,)),)) for text in ("good", "bad")]
        found = answer(model, asked, log, BatchLimits(1, 10**9)).answers
        assert found[0] == right and found[1] == Failure("item", "answer of another kind", "a reply was asked for, ScoreResult came")
        assert list(log.responses.values()) == [right]

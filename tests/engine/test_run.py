"""Many requests through one model: equal ones once, failures kept to the item that caused them, nothing lost on resuming."""

from __future__ import annotations

import pytest
import torch

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Answers, Failure, answer
from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import GenerateRequest, ScoreResult
from iit_bench.types import Message

TEXTS = [f"{letter * (3 + i % 4)}" for i, letter in enumerate("abcdefghijklmnopqrst")]
ROWS = BatchLimits(4, 10**9)


@pytest.fixture
def run(tmp_path):
    """run(model, requests) → Answers, always into the same log."""

    def call(model, requests, limits=ROWS, **more) -> Answers:
        with ResponseLog(tmp_path / "responses.jsonl") as log:
            return answer(model, requests, log, limits, **more)

    return call


def test_equal_requests_are_computed_once_and_answered_everywhere(run, company_model, ask):
    model = company_model()
    settled = []
    found = run(model, [ask("x"), ask("y"), ask("x"), ask("x", "a", "c"), ask("y")], advance=settled.append)
    assert (found.distinct, found.computed) == (3, 3)
    assert sum(map(len, model.batches)) == 3
    assert found.answers[0] == found.answers[2] != found.answers[3]
    assert found.answers[1] == found.answers[4]
    assert sum(settled) == 5


def test_answers_come_in_the_order_asked(run, company_model):
    requests = [GenerateRequest((Message("user", (text,)),)) for text in TEXTS]
    assert [one.text for one in run(company_model(), requests).answers] == [text.upper() for text in TEXTS]


def test_finished_batches_are_not_computed_again(run, company_model, ask):
    requests = [ask(text) for text in TEXTS]
    first = run(company_model(), requests)
    model = company_model()
    assert run(model, requests).answers[:] == first.answers[:]
    assert model.batches == []


@pytest.mark.parametrize("batches_before", range(5))
def test_resumed_work_is_computed_in_the_same_company(run, tmp_path, company_model, ask, batches_before):
    requests = [ask(text) for text in TEXTS]
    whole = run(company_model(), requests)
    lines = (tmp_path / "responses.jsonl").read_bytes().splitlines(keepends=True)
    # Killed inside a batch: some of its answers are in the log, the last one torn.
    kept = 1 + 4 * batches_before + 2
    (tmp_path / "responses.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    model = company_model()
    assert run(model, requests).answers[:] == whole.answers[:]
    assert len(model.batches) == 5 - batches_before


def test_request_longer_than_the_context_fails_alone_and_is_never_asked(run, company_model, ask):
    model = company_model(max_context=6)
    found = run(model, [ask("short"), ask("much too long"), ask("brief")])
    assert found.answers[1] == Failure("item", "context overflow", "13 tokens, the model takes 6")
    assert all(isinstance(one, ScoreResult) for one in (found.answers[0], found.answers[2]))
    assert all("much too long" not in batch for batch in model.batches)


def fails_with(error: Exception, *bad: str):
    return lambda texts: error if any(text in bad for text in texts) else None


def test_item_error_is_kept_to_its_item(run, company_model, ask):
    bad = (TEXTS[3], TEXTS[10])
    found = run(company_model(fails_with(ItemError("unreadable image", "truncated"), *bad)), [ask(text) for text in TEXTS])
    failed = {text for text, one in zip(TEXTS, found.answers, strict=True) if isinstance(one, Failure)}
    assert failed == set(bad)
    assert found.answers[3] == Failure("item", "unreadable image", "truncated")


def test_machine_error_fails_its_batch_and_resuming_completes(run, company_model, ask):
    requests = [ask(text) for text in TEXTS]
    whole = company_model()
    with_error = run(company_model(fails_with(MachineError("server gone", "502"), TEXTS[3])), requests)
    failed = [one for one in with_error.answers if isinstance(one, Failure)]
    assert failed == [Failure("machine", "server gone", "502")] * 4  # the batch is not tried again in parts: the server is gone
    resumed = run(whole, requests)
    assert not any(isinstance(one, Failure) for one in resumed.answers)
    assert len(whole.batches) == 1
    assert resumed.computed == 4


def out_of_memory_above(rows: int):
    return lambda texts: torch.OutOfMemoryError("CUDA out of memory") if len(texts) > rows else None


def test_out_of_memory_halves_the_batch_until_it_fits(run, company_model, ask):
    model = company_model(out_of_memory_above(3))
    found = run(model, [ask(text) for text in TEXTS[:16]], BatchLimits(8, 10**9))
    assert all(isinstance(one, ScoreResult) for one in found.answers)
    assert sorted(map(len, model.batches)) == [2] * 8 + [4] * 4 + [8] * 2


def test_request_that_alone_does_not_fit_is_an_error_of_the_machine(run, company_model, ask):
    found = run(company_model(out_of_memory_above(0)), [ask("x"), ask("y")])
    assert [(one.kind, one.reason) for one in found.answers] == [("machine", "out of memory")] * 2


def test_too_little_memory_to_prepare_a_request_ends_the_run_and_changes_no_batch(run, tmp_path, company_model, ask):
    """Without its length the others would be put into other batches, and get other answers."""

    class Preparing(company_model):
        def request_tokens(self, request):
            if request.messages[0].text == TEXTS[3]:
                raise MemoryError
            return super().request_tokens(request)

    requests = [ask(text) for text in TEXTS]
    with pytest.raises(UserError, match=r"a request cannot be prepared \(out of memory\), .* repeat the command to resume"):
        run(Preparing(), requests)
    found = run(company_model(), requests).answers[:]
    (tmp_path / "responses.jsonl").unlink()
    assert found == run(company_model(), requests).answers[:]


def test_answer_in_the_log_outlives_a_later_failure_of_its_batch(run, company_model, ask):
    requests = [ask("good"), ask("evil")]
    first = run(company_model(fails_with(ItemError("unreadable image"), "evil")), requests)
    later = run(company_model(fails_with(MachineError("server gone"), "evil")), requests)
    assert later.answers[0] == first.answers[0]
    assert later.answers[1].kind == "machine"


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 0.5])
def test_score_that_is_no_log_probability_is_an_error_of_its_item(run, company_model, ask, value):
    class Overflowing(company_model):
        def _score(self, request, company):
            result = super()._score(request, company)
            is_bad = request.messages[0].text == TEXTS[2]
            return ScoreResult((value, -1.0), (1, 1), (False, False), 1) if is_bad else result

    found = run(Overflowing(), [ask(text) for text in TEXTS])
    failed = [text for text, one in zip(TEXTS, found.answers, strict=True) if isinstance(one, Failure)]
    assert failed == [TEXTS[2]]

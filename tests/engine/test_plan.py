"""What identifies a request, and which requests run together."""

from __future__ import annotations

import dataclasses
import random

import pytest

from iit_bench.engine.growth import found_limits
from iit_bench.engine.plan import BatchLimits, model_identity, plan_batches, request_key
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelInfo, ScoreRequest
from iit_bench.types import Message

INFO = ModelInfo(
    name="m",
    checkpoint="path",
    checkpoint_sha256="hash",
    chat_template_sha256="template",
    accepts_images=True,
    blind=False,
    dtype="float32",
    device="cpu",
    max_context=512,
    parameters=7,
    details={"note": 1},
)
CHAT = (Message("user", ("What is it?",)),)
REQUEST = ScoreRequest(CHAT, ("yes", "no"))


def key(request=REQUEST, **changes) -> str:
    return request_key(request, model_identity(dataclasses.replace(INFO, **changes)))


def user(*parts) -> ScoreRequest:
    return ScoreRequest((Message("user", parts),), REQUEST.continuations)


def test_key_changes_with_all_that_determines_the_answer(make_image):
    a, b = make_image(1), make_image(2)
    keys = {
        "plain": key(),
        "other text": key(user("What is that?")),
        "other role": key(ScoreRequest((Message("system", CHAT[0].parts),), REQUEST.continuations)),
        "turn before": key(ScoreRequest((*CHAT, Message("assistant", ("yes",)), *CHAT), REQUEST.continuations)),
        "image": key(user(a, "What is it?")),
        "other image": key(user(b, "What is it?")),
        "image after": key(user("What is it?", a)),
        "image twice": key(user(a, a, "What is it?")),
        "text that looks like an image": key(user('{"image":"' + a.sha256 + '"}', "What is it?")),
        "other choice": key(ScoreRequest(CHAT, ("yes", "maybe"))),
        "choices in another order": key(ScoreRequest(CHAT, ("no", "yes"))),
        "generated": key(GenerateRequest(CHAT, 32)),
        "generated at more length": key(GenerateRequest(CHAT, 33)),
        "other model": key(name="n"),
        "other weights": key(checkpoint_sha256="x"),
        "other template": key(chat_template_sha256="x"),
        "other dtype": key(dtype="bfloat16"),
        "blind": key(blind=True),
    }
    assert len(set(keys.values())) == len(keys)


def test_key_stays_with_what_does_not_determine_the_answer(make_image):
    assert key() == key(checkpoint="moved", details={}, parameters=None, max_context=None)
    assert key(user(make_image(1), "x")) == key(user(dataclasses.replace(make_image(1)), "x"))


def random_lengths(seed: int, count: int = 200) -> dict[str, int]:
    draw = random.Random(seed)
    return {f"{draw.getrandbits(64):016x}": draw.randint(1, 90) for _ in range(count)}


@pytest.mark.parametrize("limits", [BatchLimits(7, 10**9), BatchLimits(256, 300), BatchLimits(5, 200), BatchLimits(1, 1)])
def test_batches_hold_every_request_once_within_the_limits(limits):
    lengths = random_lengths(0)
    batches = plan_batches(lengths, limits)
    assert sorted(key for batch in batches for key in batch) == sorted(lengths)
    for batch in batches:
        padded = max(lengths[key] for key in batch) * len(batch)
        assert len(batch) <= limits.rows
        assert padded <= limits.tokens or len(batch) == 1
    assert [lengths[key] for batch in batches for key in batch] == sorted(lengths.values(), reverse=True)


def test_no_batch_could_take_the_first_request_of_the_next():
    lengths, limits = random_lengths(1), BatchLimits(9, 400)
    batches = plan_batches(lengths, limits)
    for batch in batches[:-1]:
        assert len(batch) == limits.rows or lengths[batch[0]] * (len(batch) + 1) > limits.tokens


def test_plan_does_not_depend_on_the_order_of_requests():
    lengths = random_lengths(2)
    mixed = list(lengths.items())
    random.Random(3).shuffle(mixed)
    assert plan_batches(dict(mixed), BatchLimits(9, 400)) == plan_batches(lengths, BatchLimits(9, 400))


def test_batch_size_counts_rows_and_auto_counts_tokens():
    assert BatchLimits.for_model(INFO, 3).rows == 3
    on_cpu, on_cuda = (BatchLimits.for_model(dataclasses.replace(INFO, device=device), None) for device in ("cpu", "cuda:1"))
    assert on_cpu.tokens < on_cuda.tokens


def test_answers_of_a_build_that_asked_otherwise_are_not_taken_over(monkeypatch):
    """A run that was begun before replies were scored otherwise, and is resumed, must not mix both."""
    before = {key(), key(GenerateRequest(CHAT, 32))}
    monkeypatch.setattr("iit_bench.engine.plan.ANSWERS_VERSION", 1)
    assert before.isdisjoint({key(), key(GenerateRequest(CHAT, 32))})


def test_a_run_goes_on_only_in_the_ways_that_it_was_begun_in(company_model):
    model = company_model()
    model.ways = {"generating": "together", "beginnings": "once"}
    limits = found_limits(model, None)
    assert BatchLimits.of_record(limits.record(), model) == limits
    model.ways = {"generating": "together", "beginnings": "with each prompt"}
    with pytest.raises(UserError, match=r"beginnings: 'once', here 'with each prompt'.*--fresh"):
        BatchLimits.of_record(limits.record(), model)


def test_a_run_of_before_the_record_of_ways_goes_on(company_model):
    model = company_model()
    model.ways = {"beginnings": "once"}
    record = {"way": "plain", "rows": 8, "batch_tokens": 100, "row_tokens": 1024, "version": 1}
    limits = BatchLimits.of_record(record, model)
    assert (limits.rows, limits.record()) == (8, record)


def test_requests_of_one_chat_come_together_and_nothing_else_moves():
    lengths = {"a": 9, "b": 8, "c": 8, "d": 7, "e": 5}
    limits = BatchLimits(rows=2, tokens=100)
    assert plan_batches(lengths, limits) == [["a", "b"], ["c", "d"], ["e"]]
    alone = dict(zip(lengths, "vwxyz", strict=True))
    assert plan_batches(lengths, limits, chats=alone) == plan_batches(lengths, limits)
    assert plan_batches(lengths, limits, chats=alone | {"a": "one", "e": "one"}) == [["a", "e"], ["b", "c"], ["d"]]

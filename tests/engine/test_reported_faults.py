"""Faults that were reported about runs, one test each: what was wrong, and what is right."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Answers, Failure, answer
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import ScoreResult

TEXTS = [f"{letter * (3 + i % 4)}" for i, letter in enumerate("abcdefghijklmnopqrst")]


@pytest.fixture(params=[None, 1, 3], ids=["in batches", "one at a time", "three at a time"])
def model_of(request, company_model):
    """model_of(fails) → a model that is asked in batches, or by threads."""
    capabilities = dataclasses.replace(company_model.capabilities, requests_at_once=request.param)
    return type("Asked", (company_model,), {"capabilities": capabilities})


@pytest.fixture
def run(tmp_path):
    def call(model, requests) -> Answers:
        with ResponseLog(tmp_path / "responses.jsonl") as log:
            return answer(model, requests, log, BatchLimits(4, 10**9))

    return call


ERRORS = [
    ValueError("images and marks differ in number"),
    TypeError("NoneType"),
    IndexError("list index out of range"),
    KeyError("image"),
    RuntimeError("shapes cannot be multiplied"),
    AttributeError("no such thing"),
    NotImplementedError("not for images"),
    AssertionError(),
    type("StrictDataclassError", (Exception,), {})("field 'max_pixels': expected int"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_for_one_item_ended_the_run_and_is_that_items_error(run, model_of, ask, error):
    """An exception of a processor or model ended the whole run; it is the item's error, counted with its type."""
    found = run(model_of(lambda texts: error if TEXTS[5] in texts else None), [ask(text) for text in TEXTS])
    failed = {text: one for text, one in zip(TEXTS, found.answers, strict=True) if isinstance(one, Failure)}
    assert set(failed) == {TEXTS[5]}
    assert (failed[TEXTS[5]].kind, failed[TEXTS[5]].reason) == ("item", type(error).__name__)
    assert failed[TEXTS[5]].detail == (str(error) or type(error).__name__)


def test_an_exception_while_a_prompt_is_counted_is_the_items_error(run, model_of, ask):
    """Likewise where the processor raises before any batch is made."""

    class Counting(model_of):
        def request_tokens(self, request):
            if request.messages[0].text == TEXTS[3]:
                raise ValueError("Image features and image tokens do not match")
            return super().request_tokens(request)

    found = run(Counting(), [ask(text) for text in TEXTS])
    assert [i for i, one in enumerate(found.answers) if isinstance(one, Failure)] == [3]
    assert found.answers[3].reason == "ValueError"


@pytest.mark.parametrize("where", ["score", "request_tokens"])
def test_a_run_whose_first_ten_items_all_fail_alike_ends_with_a_sentence(run, model_of, ask, where):
    """A model that cannot be asked at all would fail every item; ten that fail with one type end the run."""

    class Broken(model_of):
        pass

    def raises(self, asked):
        raise TypeError("forward() got an unexpected argument")

    setattr(Broken, where, raises)
    with pytest.raises(UserError, match=r"first 10 items all failed with TypeError \(forward\(\) got an unexpected argument\)") as caught:
        run(Broken(), [ask(text) for text in TEXTS])
    assert isinstance(caught.value.__cause__, TypeError)  # --debug shows where


@pytest.mark.parametrize(
    "errors",
    [
        [ValueError("x")] * 9 + [None] + [ValueError("x")] * 10,  # one was answered
        [ValueError("x")] * 9 + [TypeError("x")] + [ValueError("x")] * 10,  # one failed in another way
        [ItemError("context overflow")] * 20,  # errors of items are expected
    ],
    ids=["one answered", "another type", "expected errors"],
)
def test_other_runs_are_not_ended(run, company_model, ask, errors):
    """Ten failures end a run only if they are the first to finish, all of one type, and unexpected."""
    error_of = dict(zip([f"{i:02}" for i in range(20)], errors, strict=True))
    model = type("One", (company_model,), {"capabilities": dataclasses.replace(company_model.capabilities, requests_at_once=1)})
    found = run(model(lambda texts: error_of[texts[0]]), [ask(text) for text in error_of])
    assert sum(isinstance(one, Failure) for one in found.answers) == sum(error is not None for error in errors)


def test_a_resumed_run_with_answers_is_not_ended(run, company_model, ask):
    """What an earlier run answered counts as finished."""
    run(company_model(), [ask("good")])
    found = run(company_model(lambda texts: ValueError("x")), [ask(text) for text in ("good", *TEXTS)])
    assert isinstance(found.answers[0], ScoreResult)
    assert sum(isinstance(one, Failure) for one in found.answers) == 20


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert triggered"), torch.AcceleratorError("lost")], ids=["text", "class"]
)
def test_a_failed_device_ends_the_run_and_is_no_items_fault(run, company_model, ask, error):
    """After a device has failed every later item would fail too; the run ends, and resuming computes the rest."""
    with pytest.raises(UserError, match=r"the device failed .* repeat the command to resume"):
        run(company_model(lambda texts: error if TEXTS[5] in texts else None), [ask(text) for text in TEXTS])
    assert not any(isinstance(one, Failure) for one in run(company_model(), [ask(text) for text in TEXTS]).answers)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_memory_of_the_machine_halves_the_batch_too(run, company_model, ask, error):
    """Too little memory on a CPU ended the run; it is an error of the machine, and a smaller batch is tried first."""
    found = run(company_model(lambda texts: error if len(texts) > 1 else None), [ask(text) for text in TEXTS])
    assert not any(isinstance(one, Failure) for one in found.answers)

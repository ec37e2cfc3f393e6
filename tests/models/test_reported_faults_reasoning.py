"""Reported faults of reasoning, the clock and template arguments in models: one test per fault.

The models are real ones of transformers whose weights make every token follow a given one, so they write what a test wants, greedily.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers.utils.chat_template_utils as rendering

from iit_bench.engine.plan import model_identity, request_key
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.models.reasoning import reasoning_budget
from iit_bench.types import Message
from tests.conftest import tiny_tokenizer
from tests.scripted_model import OPENING, THINKING, save_scripted

ASKED = (Message("user", ("?",)),)
Writes = Callable[..., Path]


@pytest.fixture(scope="module")
def writes(tmp_path_factory) -> Writes:
    """writes(tokens, template=…) → folder of a model whose reply to any chat is these tokens."""

    def save(script: Sequence[str], template: str = THINKING, **more: bool) -> Path:
        return save_scripted(tmp_path_factory.mktemp("script"), script, template, **more)

    return save


THINKS = ["<think>", "W", "h", "y", "</think>", "P", "a", "r", "i", "s", "<|end|>"]
CUT = ["W", "h", "y", "n", "o", "t"]


def reply_of(folder: Path, *limits: int, **options):
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu", **options))
    return model.generate([GenerateRequest(ASKED, *limits)])[0]


@pytest.mark.parametrize("special", [False, True])
def test_reasoning_is_no_part_of_the_reply(writes, special):
    """Reasoning was read as the answer; the text is what follows the closing mark, also where the marks are special tokens."""
    reply = reply_of(writes(THINKS, special=special), 32)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Paris", "Why", "stop")
    assert (reply.new_tokens, reply.reasoning_tokens) == (10, 5)


def test_reasoning_that_the_template_opens_is_no_part_of_the_reply(writes):
    """A reply whose opening mark is in the prompt holds only the closing one; it was read whole."""
    assert reply_of(writes(THINKS[1:], OPENING), 32).text == "Paris"
    cut = reply_of(writes(CUT, OPENING), 4)
    assert (cut.text, cut.reasoning, cut.unfinished_reasoning, cut.finish_reason) == ("", "Whyn", True, "length")


def test_reasoning_has_a_budget_of_its_own(writes):
    """The length of a reply also cut what comes before it, so every thinking model was cut; now each has its limit."""
    folder = writes(THINKS)
    cut = reply_of(folder, 3)
    assert (cut.text, cut.unfinished_reasoning, cut.new_tokens) == ("", True, 3)
    short = reply_of(folder, 3, 8)
    assert (short.text, short.reasoning, short.finish_reason, short.new_tokens) == ("Par", "Why", "length", 8)
    assert reply_of(folder, 5, 8).text == "Paris"


def test_a_row_stops_as_soon_as_its_reply_is_long_enough(writes):
    """A budget for reasoning costs no time where a model does not use it up: rows of one batch stop by their own limits."""
    folder = writes(["<think>", "W", "h", "</think>", "P", "a", "r", "i", "s", "x", "z"])
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
    steps = []
    model.model.register_forward_pre_hook(lambda *_: steps.append(1))
    asked = [GenerateRequest(ASKED, 2, 50), GenerateRequest((*ASKED, Message("assistant", ("x",)), *ASKED), 4, 50)]
    first, second = model.generate(asked)
    assert [first.text, second.text] == ["Pa", "Pari"]
    assert len(steps) == 4 + 4
    assert [one.text for request in asked for one in model.generate([request])] == ["Pa", "Pari"]


def test_whether_a_model_reasons_decides_its_budget(writes):
    """Thinking models were cut at 32 tokens by default: they get a budget, at most half of their context; others get none."""
    thinks = load_model(f"hf:{writes(THINKS)}", ModelOptions(device="cpu"))
    assert thinks.capabilities.reasons and reasoning_budget(thinks, None) == 128 == thinks.info.max_context // 2
    assert reasoning_budget(thinks, 7) == 7
    off = load_model(f"hf:{writes(THINKS)}", ModelOptions(device="cpu", chat_template_kwargs={"enable_thinking": False}))
    assert not off.capabilities.reasons and reasoning_budget(off, None) == 0
    assert off.render(ASKED).endswith("<think></think>")
    assert off.request_tokens(GenerateRequest(ASKED, 3, 4)) == off.request_tokens(GenerateRequest(ASKED, 7))


# ---------------------------------------------------------------- keys


def key_of(folder: Path, *limits: int, **options) -> str:
    return request_key(
        GenerateRequest(ASKED, *limits), model_identity(load_model(f"hf:{folder}", ModelOptions(device="cpu", **options)).info)
    )


def test_what_a_template_is_told_is_part_of_every_key(writes, monkeypatch):
    """Answers to another template argument, or of another day, were taken for the same; nothing given leaves keys as they were."""
    folder, clock = writes(THINKS), writes(THINKS, "{{ strftime_now('%d %b') }}" + THINKING)
    plain = key_of(folder)
    assert plain == key_of(folder, date="2026-11-29")
    assert key_of(folder, chat_template_kwargs={"enable_thinking": False}) != plain
    days = [key_of(clock, date=day) for day in ("2026-11-29", "2026-11-29", "2026-11-30")]
    assert days[0] == days[1] != days[2]
    assert key_of(folder, 32, 9) != plain


def test_a_template_that_asks_the_clock_is_told_one_day(writes, monkeypatch):
    """The prompt changed at midnight; it is that of transformers on the given day, whatever the day is."""
    folder = writes(THINKS, "Today: {{ strftime_now('%d %b %Y') }}" + THINKING)
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu", date="2024-02-29"))
    assert model.info.settings["date"] == "2024-02-29"

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 2, 29)

    monkeypatch.setattr(rendering, "datetime", Clock)
    theirs = tiny_tokenizer("Today: {{ strftime_now('%d %b %Y') }}" + THINKING)
    assert model.render(ASKED) == theirs.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True)
    assert model.render_text([{"role": "user", "content": "?"}]) == model.render(ASKED)


@pytest.mark.parametrize("name", ["wings", "base-llm"])
def test_arguments_that_a_bundled_models_template_lacks_are_refused(name):
    """A template argument that changes nothing would be recorded as if it did."""
    with pytest.raises(UserError, match="does not mention 'enable_thinking'"):
        load_model(name, ModelOptions(device="cpu", chat_template_kwargs={"enable_thinking": False}))


def test_choices_are_scored_as_replies_and_not_as_reasoning(writes):
    """Where the prompt opens reasoning, a choice was scored as its first words; it is scored as a reply reads in a history."""
    folder = writes(THINKS[1:], OPENING)
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
    (result,) = model.score([ScoreRequest(ASKED, ("Paris", "no"))])
    ids = model.tokenizer.encode("<|user|>?<|end|><|assistant|>Paris", add_special_tokens=False)
    start = len(model.tokenizer.encode("<|user|>?<|end|><|assistant|>", add_special_tokens=False))
    with torch.inference_mode():
        scores = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    direct = sum(float(scores[i - 1, ids[i]]) for i in range(start, len(ids)))
    assert result.logprobs[0] == pytest.approx(direct, abs=1e-5)


def test_an_image_text_models_reply_has_its_own_length_whatever_the_budget(tiny_llava, make_image):
    """A budget for reasoning must not lengthen the reply of a model that does not reason."""
    model = load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))
    chat = (Message("user", (make_image(0), "Which colour?")),)
    plain, budgeted = (model.generate([GenerateRequest(chat, 4, reasoning)])[0] for reasoning in (0, 30))
    assert plain == budgeted and plain.new_tokens <= 4
    assert model.request_tokens(GenerateRequest(chat, 4, 30)) == model.request_tokens(GenerateRequest(chat, 34))

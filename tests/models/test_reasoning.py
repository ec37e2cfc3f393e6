"""Reasoning and reply apart: texts of the forms that models write, and tokens of a tokenizer that knows the marks or does not."""

from __future__ import annotations

import pytest

from iit_bench.models.contract import GenerateRequest, GenerateResult
from iit_bench.models.reasoning import KNOWN, THINK, Marks, Reasoning, SplitReply, read_reply, reasoning_of, split_reasoning, split_text
from iit_bench.types import Message
from tests.conftest import tiny_tokenizer

HARMONY = next(marks for marks in KNOWN if "analysis" in marks.opening)
MISTRAL = Marks("[THINK]", "[/THINK]")
ANALYSIS = "<|channel|>analysis<|message|>Is it B? No."
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>A"
ASKED = (Message("user", ("?",)),)


@pytest.mark.parametrize(
    ("text", "marks", "opened", "split"),
    [
        ("<think>\nB or A?\n</think>\n\nA", THINK, False, ("B or A?", "\n\nA", False)),
        ("B or A?</think>A", THINK, True, ("B or A?", "A", False)),  # the template has written the opening mark
        ("B or A?</think>A", THINK, False, ("B or A?", "A", False)),
        ("a</think>b</think>C", THINK, True, ("ab", "C", False)),  # the last closing mark counts
        ("<think>The answer is B", THINK, False, ("The answer is B", "", True)),
        ("The answer is B", THINK, True, ("The answer is B", "", True)),
        ("B<think>or", THINK, False, ("Bor", "", True)),
        ("<think>x</think>B <think>or A", THINK, False, ("xB or A", "", True)),
        ("<think></think>B", THINK, False, ("", "B", False)),
        ("B", THINK, False, ("", "B", False)),
        ("I think it is B", THINK, False, ("", "I think it is B", False)),
        ("[THINK]x[/THINK]B", MISTRAL, False, ("x", "B", False)),
        (ANALYSIS + FINAL, HARMONY, False, ("Is it B? No.", "A", False)),
        (ANALYSIS, HARMONY, False, ("Is it B? No.", "", True)),
        ("<|channel|>final<|message|>A", HARMONY, False, ("", "A", False)),
    ],
)
def test_only_what_follows_the_last_closing_mark_is_the_reply(text, marks, opened, split):
    assert split_reasoning(text, (THINK, marks), opened) == SplitReply(*split)


def test_a_text_without_marks_is_left_alone_and_one_with_marks_is_split():
    plain = GenerateResult(" B ", 3, 1)
    assert split_text(plain) is plain
    split = split_text(GenerateResult("<think>no</think> B", 3, 9, "length"))
    assert (split.reasoning, split.text, split.finish_reason, split.unfinished_reasoning) == ("no", "B", "length", False)
    assert split_text(split) is split
    assert split_text(GenerateResult("<think>no", 3, 9, "length")).unfinished_reasoning
    assert split.as_written == "<think>no</think>\n\nB" and plain.as_written == " B "


# ---------------------------------------------------------------- what a template declares

QWEN_3 = (
    "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
OPENS = QWEN_3.replace("{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}", "<think>\n")
CASES = {
    "none": ("{% for m in messages %}{{ m.content }}{% endfor %}", False, (THINK,)),
    "qwen3": (QWEN_3, True, (THINK,)),
    "off": ("{% set enable_thinking = false %}" + QWEN_3, False, (THINK,)),
    "opens": (OPENS, True, (THINK,)),
    "mistral": ("{{ '[THINK]' + messages[0].content + '[/THINK]' }}<|assistant|>", True, (THINK, MISTRAL)),
    "gpt-oss": ("{{ '" + HARMONY.opening + "' }}{{ '" + HARMONY.closing + "' }}<|start|>assistant", True, (THINK, HARMONY)),
}


@pytest.mark.parametrize("name", CASES)
def test_marks_and_whether_a_model_reasons_are_read_from_its_template(name):
    template, expected, marks = CASES[name]
    found = reasoning_of(tiny_tokenizer(template))
    assert (found.expected, found.marks) == (expected, marks)


def test_a_response_template_of_transformers_declares_marks():
    tokenizer = tiny_tokenizer("{{ messages[0].content }}")
    fields = {"thinking": {"open": ["<muse>", "<ponder>"], "close": "</muse>\n"}, "content": {}}
    tokenizer.response_template = {"start_anchor": "<|assistant|>", "fields": fields}
    found = reasoning_of(tokenizer)
    assert found.expected and found.marks == (THINK, Marks("<muse>", "</muse>"), Marks("<ponder>", "</muse>"))


def test_a_prompt_that_ends_in_the_opening_mark_has_opened_reasoning():
    tokenizer = tiny_tokenizer(OPENS)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    assert reasoning_of(tokenizer).opened_by(prompt)
    assert not Reasoning().opened_by("What does <think> mean?<|assistant|>\n")


# ---------------------------------------------------------------- tokens


def marked(kind: str):
    """A tokenizer to which the marks are special tokens, added tokens or just text."""
    tokenizer = tiny_tokenizer()
    names = ["<think>", "</think>"]
    if kind != "text":
        tokenizer.add_tokens(names, special_tokens=kind == "special")
    return tokenizer


@pytest.mark.parametrize("kind", ["special", "added", "text"])
@pytest.mark.parametrize(
    ("written", "limits", "expected"),
    [
        # reply and reasoning within their limits
        ("<think>Which?</think> Paris", (32, 64), ("Paris", "Which?", "stop", False)),
        ("Paris", (32, 0), ("Paris", "", "stop", False)),
        # the reply is cut at its own limit, whatever the reasoning took
        ("<think>Which capital?</think>yes no maybe yes no maybe", (3, 64), ("yes no maybe", "Which capital?", "length", False)),
        # reasoning is cut
        ("<think>Which capital? Paris is the capital of France. yes no maybe", (1, 9), ("", None, "length", True)),
        # a turn that ends inside its reasoning
        ("<think>Paris", (32, 64), ("", "Paris", "stop", True)),
    ],
)
def test_tokens_are_read_as_reasoning_and_reply(kind, written, limits, expected):
    tokenizer = marked(kind)
    tokens = tokenizer.encode(written, add_special_tokens=False)
    request = GenerateRequest(ASKED, *limits)
    if expected[0] == "yes no maybe":  # "yes no maybe" in tokens, whatever the tokenizer makes of it
        request = GenerateRequest(ASKED, len(tokenizer.encode("yes no maybe", add_special_tokens=False)), 64)
    result = read_reply(tokenizer, tokens, request, prompt="<|assistant|>", prompt_tokens=7, reasoning=Reasoning())
    text, reasoning, finish, unfinished = expected
    assert (result.text, result.finish_reason, result.unfinished_reasoning) == (text, finish, unfinished)
    assert reasoning is None or result.reasoning == reasoning
    assert result.prompt_tokens == 7 and result.new_tokens <= request.longest
    inside = tokenizer.encode(written.partition("</think>")[0] + "</think>", add_special_tokens=False)
    assert result.reasoning_tokens == (len(inside) if "</think>" in written else result.new_tokens if unfinished else 0)


def test_channels_of_special_tokens_are_read_as_reasoning_and_reply():
    """gpt-oss: the marks of its channels are special tokens, which a decoded text has lost."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|channel|>", "<|message|>", "<|start|>"], special_tokens=True)
    tokens = tokenizer.encode(ANALYSIS + FINAL, add_special_tokens=False)
    reasoning = Reasoning((THINK, HARMONY), expected=True)
    result = read_reply(tokenizer, tokens, GenerateRequest(ASKED, 9, 90), prompt="", prompt_tokens=1, reasoning=reasoning)
    assert (result.text, result.reasoning, result.unfinished_reasoning) == ("A", "Is it B? No.", False)
    cut = read_reply(tokenizer, tokens[:8], GenerateRequest(ASKED, 9, 90), prompt="", prompt_tokens=1, reasoning=reasoning)
    assert (cut.text, cut.unfinished_reasoning) == ("", True) and cut.reasoning

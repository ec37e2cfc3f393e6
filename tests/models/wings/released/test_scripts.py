"""Prompts, labels and samples of the released code (docs/spec/wings.md#a10-training); its own cases are in the golden folders."""

from __future__ import annotations

import re

import pytest

from iit_bench.models.wings.released.scripts import IMAGE_SLOT, SCRIPTS, Prompt, collate, format_conversation, mark_image, place_image
from iit_bench.models.wings.state import IGNORED

pytestmark = pytest.mark.oracle


def encode(text: str) -> list[int]:
    """One number a mark or character; `<|eot_id|>` is 1."""
    return [1 if piece == "<|eot_id|>" else 1000 + sum(map(ord, piece)) for piece in re.findall(r"<\|.*?\|>|.", text, re.DOTALL)]


def test_the_llama_scripts_swap_two_headers_and_write_backslashes() -> None:
    prompt = format_conversation([("user", "Hi <image>"), ("assistant", "Yo")], SCRIPTS["llama"], encode)
    assert prompt.text == (
        r"<|start_header_id|>user<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>" + "\n"
        r"<|start_header_id|>system<|end_header_id|>\n\nHi <image><|eot_id|>" + "\n"
        r"<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
    )
    assert prompt.input_ids.count(IMAGE_SLOT) == 1
    assert [token for token in prompt.labels if token != IGNORED] == [*encode("Yo"), 1]


def test_where_padding_is_the_end_mark_every_end_mark_is_deleted() -> None:
    prompts = [format_conversation([("user", text), ("assistant", "ok")], SCRIPTS["llama"], encode) for text in ("a", "bcd")]
    batch = collate(prompts, pad_token_id=1, max_length=200)
    assert batch["input_ids"].shape == (2, len(prompts[1].input_ids))
    assert ((batch["input_ids"] == 1) == (batch["attention_mask"] == 0)).all()
    kept = batch["labels"][0][batch["attention_mask"][0].bool()]
    assert kept[kept != IGNORED].tolist() == encode("ok")  # the end of the reply is never learnt
    assert collate(prompts, 1, 20)["labels"].shape == (2, 20)


def test_a_preface_opens_the_reply() -> None:
    prompt = format_conversation([("system", "S"), ("user", "U")], SCRIPTS["qwen"], encode, preface="It is")
    assert prompt.text.endswith("<|im_start|>assistant\nIt is")
    assert prompt.text.startswith("<|im_start|>system\nS<|im_end|>\n")
    assert isinstance(prompt, Prompt)


@pytest.mark.parametrize(
    "turns, has_image, expected",
    [
        (["<image>\na <image>", "b", "c <image>"], True, ["<image>\na", "b", "c"]),  # the first mark of the first user turn that has one
        (["a", "b", "c <image> d"], True, ["a", "b", "c <image> d"]),
        ([" a ", "b <image>", "c"], True, ["a", "b", "<image>\nc"]),  # no user turn has one: the last user turn gets it
        ([" a <image>", "b", "c"], False, ["a", "b", "c"]),
    ],
)
def test_a_sample_keeps_one_image(turns: list[str], has_image: bool, expected: list[str]) -> None:
    roles = ["user", "assistant", "user"]
    placed = place_image(list(zip(roles, turns, strict=True)), has_image)
    assert placed == list(zip(roles, expected, strict=True))
    assert place_image([("assistant", "x <image>")], True) == [("assistant", "x <image>")]


@pytest.mark.parametrize(
    "instruction, expected",
    [("<image 2> or <image 2>?", "<image> or ?"), ("<image 1><image 3>!", "<image>!"), ("what?", "<image>\nwhat?")],
)
def test_a_question_has_one_mark(instruction: str, expected: str) -> None:
    assert mark_image(instruction) == expected

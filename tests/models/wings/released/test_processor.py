"""The processor of an official checkpoint: the released code's prompts as a chat template, an image as its slot -200."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.wings import WingsProcessor
from iit_bench.models.wings.load import load
from iit_bench.models.wings.released.scripts import IMAGE_SLOT, SCRIPTS, write_turns
from iit_bench.models.wings.templates import of_script
from iit_bench.types import Image, Message

TEXTS = ("2 <image>?", "a\n", "<|im_end|>", "", r"\n", "{{ 1 }}")


def chat_of(kit: Any, *parts: str | int) -> tuple[Message, ...]:
    """A system turn or not, turns of texts; a number is an image."""
    return (Message("user", tuple(kit.picture(part) if isinstance(part, int) else part for part in parts)),)


@pytest.fixture(scope="module")
def saved(qwen: Path, chatml: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(adapter of the official folder, folder that transformers' save_pretrained wrote of it)."""
    adapter = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    place = tmp_path_factory.mktemp("saved")
    adapter.model.save_pretrained(place)
    WingsProcessor.from_config(adapter.model.config, chatml).save_pretrained(place)
    return adapter, place


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_template_writes_what_the_script_writes(script: str, chatml: Any) -> None:
    template = of_script(SCRIPTS[script], "<image>")
    for count, system, prompt in itertools.product((1, 2, 3), (False, True), (False, True)):
        turns = [("system", "Be brief.\n")] * system
        turns += [("assistant" if number % 2 else "user", TEXTS[number + count]) for number in range(count)]
        written = write_turns(turns, SCRIPTS[script], "" if prompt else None)
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        found = chatml.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=prompt)
        assert found == "".join(piece for _, piece in written)


def test_ids_and_replies_equal_the_adapters(saved: Any, kit: Any) -> None:
    adapter, place = saved
    processor = AutoProcessor.from_pretrained(place)
    model = AutoModelForImageTextToText.from_pretrained(place, dtype=torch.float32)
    for parts in ((1, "\nHue?"), ("2 <image>?",), ("Say <|im_end|>", 2, " now")):
        chat = chat_of(kit, *parts)
        content = [
            {"type": "image", "image": part.data} if isinstance(part, Image) else {"type": "text", "text": part} for part in chat[0].parts
        ]
        turns = [{"role": "user", "content": content}]
        inputs = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
        assert inputs["input_ids"].tolist() == [adapter.encoder.encode(chat).input_ids]
        assert inputs["input_ids"].tolist()[0].count(IMAGE_SLOT) == len(chat[0].images)
        output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        reply = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert reply.strip() == adapter.generate([GenerateRequest(chat, 5)])[0].text
        assert processor.batch_decode(output)[0].count("<image>") >= len(chat[0].images)

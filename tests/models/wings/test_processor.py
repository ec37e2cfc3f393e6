"""The processor against the adapter: the same ids and pixels for any dialogue, the same replies; and as transformers uses it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, pipeline

from iit_bench.images import UnreadableImageError, decode
from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.wings import WingsConfig, WingsProcessor
from iit_bench.models.wings.load import load
from iit_bench.models.wings.vision import preprocess, preprocess_all
from iit_bench.types import Image, Message

# Texts that try to spell marks of the chat, also across neighbouring parts.
TEXTS = st.one_of(st.text("aé \n?<>|", max_size=6), st.sampled_from(["<image>", "<|end|>", "<|us", "er|>", "<im", "age>", "Which colour?"]))
TURNS = st.lists(st.one_of(TEXTS, st.integers(0, 2)), min_size=1, max_size=4)


def as_chat(kit: Any, turns: list[list[str | int]], images: int = 99) -> tuple[Message, ...]:
    """User and assistant turns; a number is an image, of which at most `images` are kept."""
    left = iter(range(images))
    chat = []
    for number, parts in enumerate(turns):
        kept = [
            part if isinstance(part, str) else kit.picture(part) for part in parts if isinstance(part, str) or next(left, None) is not None
        ]
        chat.append(Message("assistant" if number % 2 else "user", tuple(kept)))
    return tuple(chat)


def as_template_input(chat: tuple[Message, ...]) -> list[dict[str, Any]]:
    def content(part: str | Image) -> dict[str, Any]:
        return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part.data}

    return [{"role": message.role, "content": [content(part) for part in message.parts]} for message in chat]


def prepare(processor: Any, chats: Any) -> Any:
    return processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")


@pytest.fixture(scope="module", params=["strict", "released", "shipped"])
def both(request: pytest.FixtureRequest, kit: Any, tokenizer: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(adapter, processor) of one folder. The tiny tokenizer's template takes texts, the shipped one's takes parts."""
    place = folder
    if request.param == "released":
        place = kit.save_tiny(tmp_path_factory.mktemp("released"), tokenizer, mode="released")
    elif request.param == "shipped":
        place = ASSETS / "wings"
    return load("wings", ModelOptions(checkpoint=str(place), device="cpu")), AutoProcessor.from_pretrained(place)


@pytest.mark.slow
def test_ids_and_pixels_equal_the_adapters(kit: Any, both: Any) -> None:
    adapter, processor = both
    most = 1 if adapter.model.config.mode == "released" else 99

    @given(dialogues=st.lists(st.lists(TURNS, min_size=1, max_size=3), min_size=1, max_size=3))
    @settings(deadline=None, database=None, derandomize=True, max_examples=40)
    def compare(dialogues: list[Any]) -> None:
        chats = [as_chat(kit, turns, most) for turns in dialogues]
        expected = [adapter.encoder.encode(chat) for chat in chats]
        images = [image for chat in expected for image in chat.images]
        together = prepare(processor, [as_template_input(chat) for chat in chats])
        for row, mask, chat in zip(together["input_ids"], together["attention_mask"], expected, strict=True):
            assert row[mask.bool()].tolist() == chat.input_ids
            assert mask.tolist() == [0] * (len(row) - len(chat.input_ids)) + [1] * len(chat.input_ids)
        assert ("pixel_values" in together) == bool(images)
        if images:
            assert torch.equal(together["pixel_values"], torch.stack([preprocess(decode(i.data), adapter.model.config) for i in images]))
        assert prepare(processor, as_template_input(chats[0]))["input_ids"].tolist() == [expected[0].input_ids]

    compare()


def test_replies_equal_the_adapters(kit: Any, both: Any) -> None:
    adapter, processor = both
    chats = [as_chat(kit, [[0, "Which colour?"]]), as_chat(kit, [["Is <image> text?"]])]
    if adapter.model.config.mode == "strict":
        chats.append(as_chat(kit, [[1, "and", 2], ["red"], ["Which?", 0]]))
    else:
        chats = chats[:1]  # an image row and a text row of one batch influence each other there
    inputs = prepare(processor, [as_template_input(chat) for chat in chats])
    output = adapter.model.generate(**inputs, max_new_tokens=6, do_sample=False, suppress_tokens=[adapter.model.config.image_token_id])
    replies = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    expected = adapter.generate([GenerateRequest(chat, 6) for chat in chats])
    assert [reply.strip() for reply in replies] == [result.text for result in expected]


def test_a_saved_processor_is_the_same_processor(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    first = WingsProcessor.from_config(WingsConfig.from_pretrained(folder), tokenizer)
    again = AutoProcessor.from_pretrained(folder)
    again.save_pretrained(tmp_path)
    assert type(again) is WingsProcessor
    assert again.to_dict() == first.to_dict()
    assert {file.name for file in tmp_path.iterdir()} <= {file.name for file in folder.iterdir()}
    for file in tmp_path.iterdir():
        if file.name != "tokenizer_config.json":  # transformers adds where it was loaded from
            assert file.read_bytes() == (folder / file.name).read_bytes()


def test_the_shipped_models_have_their_processors() -> None:
    for name in ("wings", "llava", "llava-one-rate"):
        place = ASSETS / name
        expected = WingsProcessor.from_config(WingsConfig.from_pretrained(place), AutoTokenizer.from_pretrained(place))
        assert AutoProcessor.from_pretrained(place).to_dict() == expected.to_dict()
        assert (place / "chat_template.jinja").read_text() == expected.chat_template


def test_images_together_have_the_bits_of_each(kit: Any, folder: Path) -> None:
    config = WingsConfig.from_pretrained(folder)
    shapes = (config.image_size, config.image_size), (40, 90), (7, 5)
    images = [decode(kit.picture(seed).data).resize(shape) for seed, shape in enumerate(shapes)]
    assert torch.equal(preprocess_all(images, config), torch.stack([preprocess(image, config) for image in images]))


def test_an_image_may_come_in_any_form(kit: Any, folder: Path, tmp_path: Path) -> None:
    images = AutoImageProcessor.from_pretrained(folder)
    data = kit.picture(1).data
    file = tmp_path / "image.png"
    file.write_bytes(data)
    opened = PILImage.open(io.BytesIO(data))
    array = np.asarray(opened)
    text = base64.b64encode(data).decode()
    forms = [opened, array, torch.from_numpy(array.transpose(2, 0, 1).copy()), data, str(file), text, f"data:image/png;base64,{text}"]
    expected = preprocess(decode(data), WingsConfig.from_pretrained(folder))
    for form in forms:
        assert torch.equal(images(form, return_tensors="pt")["pixel_values"], expected[None])
    assert images([[opened, data], [array]], return_tensors="pt")["pixel_values"].shape[0] == 3
    with pytest.raises(ValueError, match="'no-such-file' is neither a file nor a URL nor base64"):
        images("no-such-file")
    with pytest.raises(ValueError, match="do_resize cannot be set per call"):
        images(opened, do_resize=False)


def test_an_image_without_pixels_or_with_too_many_is_refused(kit: Any, folder: Path) -> None:
    images = AutoImageProcessor.from_pretrained(folder)
    with pytest.raises(UnreadableImageError, match="0 x 5 pixels are none"):
        images(PILImage.new("RGB", (0, 5)))
    images.max_image_pixels = 50
    with pytest.raises(UnreadableImageError, match="11 x 8 pixels are more than 50"):
        images(kit.picture(1).data)
    with pytest.raises(UnreadableImageError, match="not an image"):
        images(b"no image")


def test_images_unlike_marks_are_refused(kit: Any, folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    with pytest.raises(ValueError, match="2 <image> tokens and 1 images"):
        processor(text="<|user|><image><image>", images=[kit.picture(0).data])
    with pytest.raises(ValueError, match="no images were passed"):
        processor(text="<|user|><image>")


def test_a_tokenizer_without_the_image_token_is_refused(folder: Path, tokenizer: Any) -> None:
    config = WingsConfig.from_pretrained(folder)
    config.image_token_id = -1
    with pytest.raises(ValueError, match="image_token_id -1 is not a token of the tokenizer"):
        WingsProcessor.from_config(config, tokenizer)


def test_transformers_pipeline_answers_chats(kit: Any) -> None:
    place = str(ASSETS / "wings")
    chat = as_chat(kit, [[0, "Which colour?"]])
    adapter = load("wings", ModelOptions(checkpoint=place, device="cpu"))
    pipe = pipeline("image-text-to-text", model=place, dtype=torch.float32, device="cpu")
    (answer,) = pipe(text=as_template_input(chat), max_new_tokens=4, return_full_text=False)
    assert answer["generated_text"] == adapter.generate([GenerateRequest(chat, 4)])[0].text


def test_assistant_tokens_can_be_masked_for_training(folder: Path) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    )
    processor = AutoProcessor.from_pretrained(folder)
    chat = [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": "red"}]
    inputs = processor.apply_chat_template(
        chat, template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    masked = torch.as_tensor(inputs["assistant_masks"]).bool()
    assert processor.decode(inputs["input_ids"][masked]) == "red"


def test_processor_config_records_how_images_are_read(folder: Path) -> None:
    fields = json.loads((folder / "processor_config.json").read_text())
    assert fields["image_processor"]["image_size"] == 8
    assert (fields["image_token"], fields["image_token_length"], fields["processor_class"]) == ("<image>", 4, "WingsProcessor")

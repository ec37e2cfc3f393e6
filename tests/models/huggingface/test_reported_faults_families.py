"""Faults that were reported about image-text models, one test each: what was wrong, and what is right."""

from __future__ import annotations

import pytest
import tiny_vlms
from transformers import AutoProcessor, AutoTokenizer

from iit_bench.images import decode_item
from iit_bench.models.contract import GenerateRequest, ScoreRequest, TextScoreRequest
from iit_bench.types import Message

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

MARKS = {
    "llava": "<image>",
    "llava_onevision": "<video>",
    "qwen2_vl": "<|image_pad|>",
    "qwen3_vl": "<|vision_start|>",
    "smolvlm": "<fake_token_around_image>",
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<start_of_image>",
    "mistral3": "[IMG]",
    "paligemma": "<image>",
    "mllama": "<|image|>",
    "llama4": "<|patch|>",
    "ovis2": "<image>",
    "phi4_multimodal": "<|endoftext10|>",
    "qwen3": "<think>",
    "gemma3_text": "<start_of_turn>",
}
# Processors that count marks themselves, with no regard to what transformers' own sanitising marked as a user's text.
NOT_SANITISED = {"gemma3", "internvl", "mllama", "paligemma"}


def chat(make_image, family, mark, images=True):
    picture = (make_image(1, 56),) if images and family.images else ()
    question = Message("user", (*picture, f"Where is {mark} in a{mark}b? {mark}"))
    if not family.histories:
        return (question,)
    return (
        Message("system", (f"Never say {mark}.",)),
        Message("user", (f"What does {mark} mean?",)),
        Message("assistant", (f"{mark} is a mark",)),
        question,
    )


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("images", [True, False], ids=["image", "text"])
def test_a_mark_in_the_words_of_a_chat_ended_the_run_and_is_words(family_model, make_image, name, images):
    """Item 23: a question, choice or system prompt with the model's own mark ended the run; in chats it is words."""
    family = next(family for family in tiny_vlms.FAMILIES if family.name == name)
    model, mark = family_model(name), MARKS[name]
    messages = chat(make_image, family, mark, images)
    replies = ("Paris", mark, f"a {mark}")
    result = model.score([ScoreRequest(messages, replies)])[0]
    assert all(tokens > 1 for tokens in result.tokens[1:])  # spelled out
    assert model.generate([GenerateRequest(messages, 2)])[0].prompt_tokens > 0
    ids = _prompt(model, messages)
    decoded = model.tokenizer.decode(ids)
    assert decoded.count(f"a{mark}b? {mark}") == 1
    named = model.tokenizer.convert_tokens_to_ids(mark)
    without = chat(make_image, family, "x", images)
    assert ids.count(named) == _prompt(model, without).count(named)  # the template's and the images' own


def _prompt(model, messages) -> list[int]:
    if hasattr(model, "inputs"):
        return model.inputs.make(*model.render(messages))["input_ids"][0].tolist()
    return model.words.encode(model.render(messages), add_special_tokens=False)


@pytest.mark.parametrize("name", [name for name in MARKS if name not in NOT_SANITISED])
def test_words_are_the_tokens_that_transformers_own_sanitising_gives(family_model, family_folder, make_image, name):
    """Item 23: the tokens are those of `apply_chat_template(…, sanitize_control_tokens=True)`, where a processor honours it."""
    family = next(family for family in tiny_vlms.FAMILIES if family.name == name)
    messages = chat(make_image, family, MARKS[name])
    renderer = (AutoProcessor if family.images else AutoTokenizer).from_pretrained(family_folder(name))
    renderer.chat_template = renderer.chat_template or renderer.tokenizer.chat_template
    turns = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": decode_item(part)}
                for part in message.parts
            ],
        }
        for message in messages
    ]
    if not family.images:
        turns = [{"role": message.role, "content": message.text} for message in messages]
    form = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "sanitize_control_tokens": True}
    expected = renderer.apply_chat_template(turns, add_generation_prompt=True, **form)["input_ids"]
    assert _prompt(family_model(name), messages) == expected[0].tolist()


def test_chats_without_marks_have_the_tokens_they_had(family_model, make_image):
    """Item 23: no token changes where no text has a mark, before and after one had."""
    model = family_model("qwen2_vl")
    messages = (Message("user", (make_image(1, 56), "What is this?")),)
    before = _prompt(model, messages)
    _prompt(model, (Message("user", (make_image(1, 56), "<|image_pad|> <|im_end|>")),))
    assert _prompt(model, messages) == before
    assert before == model.processor(text=[model.render(messages)[0]], images=[decode_item(messages[0].images[0])])["input_ids"][0]


def test_a_name_that_two_parts_spell_together_is_words(family_model):
    """Item 23: neighbouring texts of one turn could spell a mark that neither has."""
    model = family_model("llava")
    ids = _prompt(model, (Message("user", ("What is <im", "age>?")),))
    assert model.tokenizer.convert_tokens_to_ids("<image>") not in ids
    assert "What is <image>?" in model.tokenizer.decode(ids)


def test_raw_text_with_a_mark_stays_words_as_before(family_model):
    """Item 23: raw text had it right."""
    model = family_model("llava")
    result = model.score_text([TextScoreRequest("Where is <image> here?", (" Paris",))])[0]
    assert result.prompt_tokens > 6


def test_a_stand_in_that_somebody_wrote_is_words_and_names_come_back(family_model):
    """Item 23: a text that holds a stand-in itself is not taken for one."""
    words = family_model("qwen3").words
    hidden = words.hide("<think> and <|im_end|>")
    assert words.show(hidden) == "<think> and <|im_end|>"
    assert words.show(words.hide(hidden)) == hidden
    assert max(words.encode(words.hide(hidden))) < family_model("qwen3").model.get_input_embeddings().num_embeddings

"""Faults that were reported about image-text models, one test each: what was wrong, and what is right."""

from __future__ import annotations

import dataclasses
import json
import shutil

import PIL
import pytest
import tiny_vlms
import torchvision
from transformers import AutoProcessor, AutoTokenizer, Florence2Config

from iit_bench.engine.plan import model_identity, request_key
from iit_bench.errors import ItemError, UserError
from iit_bench.images import decode_item
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest, TextScoreRequest
from iit_bench.models.huggingface.generation import greedy_settings
from iit_bench.models.huggingface.load import load
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
    """A question, choice or system prompt with the model's own mark ended the run; in chats it is words."""
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
    """The tokens are those of `apply_chat_template(…, sanitize_control_tokens=True)`, where a processor honours it."""
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
    """No token changes where no text has a mark, before and after one had."""
    model = family_model("qwen2_vl")
    messages = (Message("user", (make_image(1, 56), "What is this?")),)
    before = _prompt(model, messages)
    _prompt(model, (Message("user", (make_image(1, 56), "<|image_pad|> <|im_end|>")),))
    assert _prompt(model, messages) == before
    assert before == model.processor(text=[model.render(messages)[0]], images=[decode_item(messages[0].images[0])])["input_ids"][0]


def test_a_name_that_two_parts_spell_together_is_words(family_model):
    """Neighbouring texts of one turn could spell a mark that neither has."""
    model = family_model("llava")
    ids = _prompt(model, (Message("user", ("What is <im", "age>?")),))
    assert model.tokenizer.convert_tokens_to_ids("<image>") not in ids
    assert "What is <image>?" in model.tokenizer.decode(ids)


def test_raw_text_with_a_mark_stays_words_as_before(family_model):
    """Raw text had it right."""
    model = family_model("llava")
    result = model.score_text([TextScoreRequest("Where is <image> here?", (" Paris",))])[0]
    assert result.prompt_tokens > 6


def test_a_stand_in_that_somebody_wrote_is_words_and_names_come_back(family_model):
    """A text that holds a stand-in itself is not taken for one."""
    words = family_model("qwen3").words
    hidden = words.hide("<think> and <|im_end|>")
    assert words.show(hidden) == "<think> and <|im_end|>"
    assert words.show(words.hide(hidden)) == hidden
    assert max(words.encode(words.hide(hidden))) < family_model("qwen3").model.get_input_embeddings().num_embeddings


# ---------------------------------------------------------------- greedy replies, and where they end


@pytest.fixture
def with_generation_config(family_folder, tmp_path):
    """with_generation_config("llava", eos_token_id=…) → the model, with these entries in its generation_config.json."""

    def load_with(name, **entries):
        folder = tmp_path / name
        shutil.copytree(family_folder(name), folder)
        file = folder / "generation_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
        return load(f"hf:{folder}", ModelOptions(device="cpu"))

    return load_with


def reply_of(model, make_image, count=8):
    inputs = model.inputs.make(*model.render((Message("user", (make_image(1, 56), "What is this?")),)))
    return model.continue_tokens([inputs], count, **greedy_settings(model.model))[0]


@pytest.mark.parametrize("listed", [True, False], ids=["listed by the checkpoint", "of the tokenizer only"])
def test_replies_ran_past_the_end_of_the_turn_and_end_at_every_end_token(family_model, with_generation_config, make_image, listed):
    """An image-text model stopped at generation_config's end tokens only, and left them in; both kinds end a reply."""
    whole = reply_of(family_model("llava"), make_image)
    end = next(i for i in range(1, 8) if whole[i] not in whole[:i])
    model = with_generation_config("llava", eos_token_id=[whole[end], 0] if listed else [0])
    if not listed:
        model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(whole[end])
    assert reply_of(model, make_image) == whole[:end]
    result = model.generate([GenerateRequest((Message("user", (make_image(1, 56), "What is this?")),), 8)])[0]
    assert (result.new_tokens, result.finish_reason) == (end, "stop")


@pytest.mark.parametrize(
    "entries",
    [
        {"repetition_penalty": 1.9},
        {"no_repeat_ngram_size": 1},
        {"guidance_scale": 3.0},
        {"num_return_sequences": 2},
        {"stop_strings": ["a", "e"]},
        {"return_dict_in_generate": True},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
    ids=lambda entries: next(iter(entries)),
)
def test_greedy_replies_of_image_text_models_obeyed_penalties_and_obey_nothing(family_model, with_generation_config, make_image, entries):
    """ "greedy" obeyed penalties and guidance of generation_config.json, other entries raised; they are set aside and recorded."""
    model = with_generation_config("qwen2_vl", **entries)
    assert reply_of(model, make_image) == reply_of(family_model("qwen2_vl"), make_image)
    assert model.info.settings["greedy_without"] == entries


# ---------------------------------------------------------------- processors


def test_how_images_are_processed_is_part_of_a_run(family_model):
    """Processors of one class differ by backend and version by up to 0.015 in a pixel; nothing said which one had run."""
    settings = family_model("qwen2_vl").info.settings["image_processing"]
    assert settings == {
        "processor": "Qwen2VLProcessor",
        "image_processor": "Qwen2VLImageProcessor",
        "backend": "torchvision",
        "pillow": PIL.__version__,
        "torchvision": torchvision.__version__.partition("+")[0],
    }
    info = family_model("qwen2_vl").info
    other = dataclasses.replace(info, settings={**info.settings, "image_processing": {**settings, "backend": "pil"}})
    request = GenerateRequest((Message("user", ("?",)),))
    assert request_key(request, model_identity(info)) != request_key(request, model_identity(other))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen2_vl", {"max_pixels": 56 * 56 * 2}),
        ("qwen2_vl", {"min_pixels": 200 * 200}),
        ("smolvlm", {"do_image_splitting": False}),
        (
            "gemma3",
            {
                "do_pan_and_scan": True,
                "pan_and_scan_max_num_crops": 4,
                "pan_and_scan_min_crop_size": 16,
                "pan_and_scan_min_ratio_to_activate": 1.0,
            },
        ),
        ("mistral3", {"size": {"longest_edge": 56}}),
    ],
    ids=["max_pixels", "min_pixels", "do_image_splitting", "do_pan_and_scan", "size"],
)
def test_settings_of_the_processor_are_honoured(family_folder, make_image, name, settings):
    """A processor of images has settings (min_pixels, max_pixels, …); what a user gives is used, and is part of the run."""
    model = load(f"hf:{family_folder(name)}", ModelOptions(device="cpu", processor_kwargs=settings))
    messages = (Message("user", (make_image(1, 112), "What is this?")),)
    text, images = model.render(messages)
    expected = AutoProcessor.from_pretrained(family_folder(name), **settings)(text=[text], images=[images], return_tensors="pt")
    inputs = model.inputs.make(text, images)
    assert inputs["pixel_values"].shape == expected["pixel_values"].shape
    assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
    assert model.info.settings["image_processing"]["processor_kwargs"] == settings


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("qwen2_vl", {"max_pixel": 3136}, "has no setting 'max_pixel'; it has .*max_pixels"),
        ("qwen3", {"max_pixels": 3136}, "text-only and has no processor of images"),
        ("qwen2_vl", {"max_pixels": "many"}, "cannot process an image with max_pixels='many': "),
        ("qwen2_vl", {"do_resize": "maybe"}, "cannot process an image with do_resize='maybe': .*bool"),
        ("qwen2_vl", {"disable_grouping": "maybe"}, "cannot process an image with disable_grouping='maybe': "),
        ("gemma3", {"do_pan_and_scan": "maybe"}, "cannot process an image with do_pan_and_scan='maybe': "),
        ("qwen2_vl", {"return_tensors": "np"}, "'return_tensors' .* is not a user's to set"),
        ("qwen2_vl", {"data_format": "x"}, "'data_format' .* is not a user's to set"),
        ("qwen2_vl", {"input_data_format": "x"}, "'input_data_format' .* is not a user's to set"),
    ],
)
def test_settings_that_a_processor_has_not_are_refused(family_folder, name, settings, message):
    """transformers takes any name in silence, and do_resize=maybe until the first chat: every item failed; all are refused at load."""
    with pytest.raises(UserError, match=message):
        load(f"hf:{family_folder(name)}", ModelOptions(device="cpu", processor_kwargs=settings))


def test_a_system_prompt_without_chats_is_named_as_the_cause(family_model):
    """PaliGemma refused every tier under a system prompt, T too, with the advice to run the tiers T and V."""
    asked = (Message("system", ("Be brief.",)), Message("user", ("What is it?",)))
    with pytest.raises(ItemError, match="takes no system prompt; leave it out"):
        family_model("paligemma").score([ScoreRequest(asked, ("a", "b"))])


def test_a_missing_package_of_a_processor_is_named(family_folder, monkeypatch):
    """SmolVLM asks for num2words; the error names it, whole."""
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(UserError, match=r"needs a package that is not installed: .*num2words"):
        load(f"hf:{family_folder('smolvlm')}", ModelOptions(device="cpu"))


def test_a_template_for_text_only_is_refused(family_folder, tmp_path):
    """A template that writes a content as it is would show the model Python's brackets instead of the question."""
    folder = tmp_path / "model"
    shutil.copytree(family_folder("phi4_multimodal"), folder)
    for file in folder.glob("*.jinja"):
        file.write_text("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>")
    with pytest.raises(UserError, match=r"is for text only and places no images; add a chat_template\.jinja"):
        load(f"hf:{folder}", ModelOptions(device="cpu"))


def test_a_folder_without_its_processor_is_refused(family_folder, tmp_path):
    """Without processor files transformers hands out a bare tokenizer."""
    folder = tmp_path / "model"
    shutil.copytree(family_folder("llava"), folder, ignore=shutil.ignore_patterns("*processor*"))
    with pytest.raises(UserError, match=r"processor"):
        load(f"hf:{folder}", ModelOptions(device="cpu"))


def test_encoder_decoder_models_are_refused(family_folder, tmp_path):
    """transformers lists them with image-text models, but their replies do not continue the prompt's tokens."""
    folder = tmp_path / "model"
    shutil.copytree(family_folder("llava"), folder)
    Florence2Config().save_pretrained(folder)
    with pytest.raises(UserError, match=r"is an encoder-decoder model \(florence2\)"):
        load(f"hf:{folder}", ModelOptions(device="cpu"))


def test_positions_of_an_earlier_image_stay_out_of_later_texts(family_model, family_folder, make_image):
    """Qwen-VL keeps the positions' shift of its last image; a text after it is scored as by a model that saw none."""
    used = family_model("qwen2_5_vl")
    fresh = load(f"hf:{family_folder('qwen2_5_vl')}", ModelOptions(device="cpu"))
    image = (Message("user", (make_image(1, 112), "What is this?")),)
    used.generate([GenerateRequest(image, 3)])
    used.score([ScoreRequest(image, ("a", "b"))])
    text = ScoreRequest((Message("user", ("yes or no?",)),), ("the red circle", "no"))
    raw = TextScoreRequest("The capital of France is", (" Paris", " the red circle"))
    assert used.score([text]) == fresh.score([text])
    assert used.score_text([raw]) == fresh.score_text([raw])
    asked = GenerateRequest(text.messages, 5)
    assert used.generate([asked]) == fresh.generate([asked])

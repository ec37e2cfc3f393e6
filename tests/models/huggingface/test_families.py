"""Every family of docs/families.md: scores, replies, histories and raw text against transformers alone."""

from __future__ import annotations

import pytest
import tiny_vlms
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor, AutoTokenizer

from iit_bench.errors import ItemError, UserError
from iit_bench.images import decode_item
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest, TextGenerateRequest, TextScoreRequest
from iit_bench.models.huggingface.encoding import InputMaker, layout_of
from iit_bench.models.huggingface.load import load
from iit_bench.models.words import words_of
from iit_bench.types import Message

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

FAMILIES = {family.name: family for family in tiny_vlms.FAMILIES}
WITH_IMAGES = [name for name, family in FAMILIES.items() if family.images]
REPLIES = ("the red circle", "Paris", "x", "a blue square and a green one")
FEW = {"phi4_multimodal": REPLIES[:2]}  # over 500 tokens per image, however small


class Alone:
    """The same checkpoint as transformers loads it, with nothing of this project."""

    def __init__(self, folder, family):
        self.renderer = AutoProcessor.from_pretrained(folder) if family.images else AutoTokenizer.from_pretrained(folder)
        self.tokenizer = self.renderer.tokenizer if family.images else self.renderer
        auto = AutoModelForImageTextToText if family.images else AutoModelForCausalLM
        auto = AutoModelForMultimodalLM if family.name == "phi4_multimodal" else auto
        self.model = auto.from_pretrained(folder).eval()
        self.one_question = not family.histories

    def render(self, messages, reply=""):
        """Up to where the reply begins, or as history reads up to where the reply ends."""
        if self.one_question:
            (message,) = messages
            return "<image>" * len(message.images) + "".join(part for part in message.parts if isinstance(part, str)).strip()
        kind = {True: lambda part: {"type": "text", "text": part}, False: lambda part: {"type": "image"}}
        contents = [[kind[isinstance(part, str)](part) for part in message.parts] for message in messages]
        if self.renderer is self.tokenizer:
            contents = [message.text for message in messages]
        turns = [{"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)]
        renderer = self.renderer if self.renderer.chat_template else self.tokenizer
        if reply:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": reply}] if renderer is self.renderer else reply})
            return renderer.apply_chat_template(turns, tokenize=False).rpartition(reply)[0] + reply
        return renderer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    def inputs(self, messages, reply=""):
        """Of the chat and a reply in one piece, in the model's dtype."""
        inputs = self._inputs(messages, reply)
        return {name: v.to(self.model.dtype) if v.is_floating_point() else v for name, v in inputs.items() if name != "labels"}

    def _inputs(self, messages, reply):
        text = self.render(messages, reply)
        images = [decode_item(image) for message in messages for image in message.images]
        bos = self.tokenizer.bos_token
        adds = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        if self.renderer is self.tokenizer:
            return dict(self.tokenizer(text, return_tensors="pt", **adds))
        if self.one_question and not images:
            ids = self.tokenizer(f"{bos}{text}\n{reply}", return_tensors="pt", add_special_tokens=False)["input_ids"]
            prompt = len(self.tokenizer.encode(f"{bos}{text}\n", add_special_tokens=False))
            return {"input_ids": ids, "token_type_ids": (torch.arange(ids.shape[1]) >= prompt).long()[None]}
        if self.one_question and reply:
            inputs = dict(self.renderer(text=[text], images=[images], suffix=[reply], return_tensors="pt"))
            last = inputs["input_ids"].shape[1] - 1  # without the end of text after a suffix
            return {name: v[:, :last] if v.shape[-1] == last + 1 else v for name, v in inputs.items()}
        return dict(self.renderer(text=[text], images=[images] if images else None, return_tensors="pt", **adds))

    @torch.no_grad()
    def score(self, messages, reply, tokens):
        """Log-probability of the last `tokens` tokens of chat and reply, by one pass over both."""
        inputs = self.inputs(messages, reply)
        ids = inputs["input_ids"][0]
        logprobs = self.model(**inputs, use_cache=False).logits[0].double().log_softmax(-1)
        assert self.tokenizer.decode(ids[-tokens:]).strip() == reply
        return float(sum(logprobs[i - 1, ids[i]] for i in range(len(ids) - tokens, len(ids))))


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request, family_folder, family_model):
    family = FAMILIES[request.param]
    return family, family_model(family.name), Alone(family_folder(family.name), family)


def chats(family, make_image):
    """One turn with 0 to 3 images, and histories of all kinds where the family takes them."""
    red, blue, green = make_image(1, 56), make_image(2, 80), make_image(3, 64)
    singles = [("What is the capital of France?",)]
    if family.images:
        singles += [(red, "\nWhat is this?"), (red, blue, "Which is red?"), (red, " or ", blue, " or ", green, "?")]
    yield from (((Message("user", parts),)) for parts in singles)
    if not family.histories:
        return
    text = (Message("user", ("What is the capital of France?",)), Message("assistant", ("Paris",)))
    yield (*text, Message("user", ("yes or no?",)))
    if family.images:
        picture = (Message("user", (red, "\nWhat colour?")), Message("assistant", ("red",)))
        yield (*text, Message("user", ("Look: ", blue, " What is this?")))
        yield (*picture, Message("user", ("yes or no?",)))
        yield (*picture, *text, Message("user", (blue, green, "Which is green?")))


def test_requests_are_rows_of_a_tree_where_the_table_says_so(pair):
    family, model, _ = pair
    assert (model.way == "tree") == family.tree, model.info.details


def test_scores_equal_one_direct_pass(pair, make_image):
    family, model, alone = pair
    replies = FEW.get(family.name, REPLIES)
    for messages in chats(family, make_image):
        result = model.score([ScoreRequest(messages, replies)])[0]
        for reply, got, tokens in zip(replies, result.logprobs, result.tokens, strict=True):
            assert got == pytest.approx(alone.score(messages, reply, tokens), abs=1e-5 * tokens), (messages, reply)


def test_scores_equal_generate_when_it_is_made_to_give_the_reply(pair, make_image):
    """Masks and token types of a reply's tokens are what the model's own `generate` gives them."""
    family, model, alone = pair
    *_, messages = chats(family, make_image)
    result = model.score([ScoreRequest(messages, REPLIES)])[0]
    compared = 0
    for reply, got, tokens in zip(REPLIES, result.logprobs, result.tokens, strict=True):
        whole = alone.inputs(messages, reply)["input_ids"][0].tolist()
        inputs = alone.inputs(messages)
        start = len(whole) - tokens
        if inputs["input_ids"][0].tolist() != whole[:start]:
            continue  # the reply's first token holds white space of the prompt
        with torch.no_grad():
            output = alone.model.generate(
                **inputs,
                max_new_tokens=tokens,
                do_sample=False,
                prefix_allowed_tokens_fn=lambda _, ids, whole=whole: [whole[len(ids)]],
                return_dict_in_generate=True,
                output_logits=True,
            )
        assert output.sequences[0].tolist() == whole
        steps = torch.stack(output.logits)[:, 0].log_softmax(-1)
        assert got == pytest.approx(float(sum(steps[i, whole[start + i]] for i in range(tokens))), abs=1e-5 * tokens)
        compared += 1
    assert compared, "no reply begins where the prompt ends"


def test_greedy_replies_equal_the_models_own_generate(pair, make_image):
    family, model, alone = pair
    for messages in chats(family, make_image):
        inputs = alone.inputs(messages)
        with torch.no_grad():
            output = alone.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        expected = alone.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        reply = model.generate([GenerateRequest(messages, 6)])[0]
        assert reply.text == expected
        assert reply.prompt_tokens == inputs["input_ids"].shape[1]


@torch.no_grad()
def test_raw_text_equals_one_direct_pass(pair):
    _, model, alone = pair
    context, replies = "The capital of France is", (" Paris", " the red circle")
    result = model.score_text([TextScoreRequest(context, replies)])[0]
    before = len(alone.tokenizer.encode(context))

    def inputs(ids):
        types = {"token_type_ids": (torch.arange(len(ids)) >= before).long()[None]} if alone.one_question else {}
        return {"input_ids": torch.tensor([ids]), **types}

    for reply, got in zip(replies, result.logprobs, strict=True):
        ids = alone.tokenizer.encode(context + reply)
        logprobs = alone.model(**inputs(ids), use_cache=False).logits[0].double().log_softmax(-1)
        assert got == pytest.approx(float(sum(logprobs[i - 1, ids[i]] for i in range(before, len(ids)))), abs=1e-5 * len(ids))
    one = model.generate_text([TextGenerateRequest(context, max_new_tokens=4)])[0]
    output = alone.model.generate(**inputs(alone.tokenizer.encode(context)), max_new_tokens=4, do_sample=False)
    assert one.text == alone.tokenizer.decode(output[0, before:], skip_special_tokens=True)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_each_image_matters(family_model, make_image, name):
    model = family_model(name)
    results = model.score([ScoreRequest((Message("user", (make_image(seed, 64), "What is this?")),), REPLIES) for seed in (1, 2)])
    assert results[0].logprobs != pytest.approx(results[1].logprobs, abs=1e-4)


def test_three_dimensional_masks_grow_as_the_models_own_generate_grows_them(family_folder, make_image):
    """The mask of Idefics [1, N, images] did not grow with the reply."""
    processor = AutoProcessor.from_pretrained(family_folder("idefics"))
    model = AutoModelForImageTextToText.from_pretrained(family_folder("idefics")).eval()
    red, blue = (decode_item(make_image(seed, 56)) for seed in (1, 2))
    first, second = (
        dict(processor(text=[["User:", red, "and", blue, f"What is this?{more}"]], return_tensors="pt")) for more in ("", " a b c")
    )
    maker = InputMaker(processor, model, words_of(processor))
    maker._layouts[frozenset(first)] = layout_of(first, second, has_suffix=False)
    with torch.no_grad():
        output = model.generate(**first, max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True)
        reply = output.sequences[0, first["input_ids"].shape[1] :].tolist()
        logits = model(**maker.append(first, reply), use_cache=False).logits[0, -len(reply) - 1 : -1]
    assert maker.append(first, reply)["image_attention_mask"].shape == (1, first["input_ids"].shape[1] + 4, 2)
    assert torch.allclose(logits, torch.stack(output.logits)[:, 0], atol=1e-4)


def test_a_processor_that_moves_images_is_refused_in_a_sentence(family_folder):
    with pytest.raises(UserError, match="Idefics 1 puts all images behind the text; use Idefics 2 or 3"):
        load(f"hf:{family_folder('idefics')}", ModelOptions(device="cpu"))


def test_a_family_without_chats_refuses_histories_in_a_sentence(family_model):
    chat = (Message("user", ("a?",)), Message("assistant", ("b",)), Message("user", ("c?",)))
    with pytest.raises(ItemError, match="the model has no chats and answers one question; run the tiers T and V"):
        family_model("paligemma").request_tokens(ScoreRequest(chat, ("a", "b")))

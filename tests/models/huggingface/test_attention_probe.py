"""The last prompt token's attention is that of transformers' stored matrices, and no matrix is held to read it."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2_attention
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss_attention

from iit_bench.errors import UserError
from iit_bench.images import decode_item
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.huggingface.attention_probe import image_column, last_row, observe
from iit_bench.models.huggingface.load import load
from iit_bench.types import KINDS, Message

FAMILIES = ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm", "internvl", "gemma3", "mistral3", "llama4", "ovis2")


def chats(make_image):
    red, blue = make_image(1, 56), make_image(2, 80)
    yield (Message("user", ("Look at ", red, " and ", blue, " which is red?")),)
    yield (Message("user", (red, "\nWhat colour?")), Message("assistant", ("red",)), Message("user", ("Is Paris in France?",)))


def stored_rows(folder, messages):
    """Per layer the last query's weights, heads averaged, and the input ids: by transformers alone, out of whole matrices."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    contents = [[{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in one.parts] for one in messages]
    turns = [{"role": one.role, "content": content} for one, content in zip(messages, contents, strict=True)]
    renderer = processor if processor.chat_template else processor.tokenizer
    text = renderer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    images = [decode_item(image) for message in messages for image in message.images]
    bos = processor.tokenizer.bos_token
    adds = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
    inputs = processor(text=[text], images=[images], return_tensors="pt", **adds)
    inputs = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        matrices = model(**inputs, use_cache=False, output_attentions=True).attentions
    return [matrix[0, :, -1].mean(dim=0) for matrix in matrices], inputs["input_ids"][0], image_column(model.config)


def means(row, is_image):
    """Mean weight by kind of token, in plain loops."""
    places = [i for i, image in enumerate(is_image) if image]
    found = {kind: [] for kind in KINDS}
    for i, weight in enumerate(row.tolist()):
        kind = "image" if i in places else "before" if i < places[0] else "after" if i > places[-1] else "between"
        found[kind].append(weight)
    return {kind: sum(weights) / len(weights) for kind, weights in found.items() if weights}


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_curves_equal_those_of_stored_matrices(name, family_folder, family_model, make_image):
    model = family_model(name)
    for messages in chats(make_image):
        rows, ids, column = stored_rows(family_folder(name), messages)
        curves = model.observe_attention(GenerateRequest(messages))
        expected = [means(row, (ids == column).tolist()) for row in rows]
        assert curves.layers == tuple(range(len(rows))) and sum(curves.tokens.values()) == len(ids)
        for kind in KINDS:
            own = [of_layer[kind] for of_layer in expected if kind in of_layer]
            assert curves.attention.get(kind, ()) == pytest.approx(own, abs=1e-5), kind


@pytest.mark.slow
def test_a_pass_that_is_observed_leaves_the_model_as_it_was(family_model, make_image):
    model = family_model("llava")
    (first, *_), request = chats(make_image), GenerateRequest((Message("user", (make_image(3, 56), "What is this?")),))
    inputs = model._make(model._text(first), first)
    with torch.no_grad():
        before = model.model(**inputs, use_cache=False).logits
        model.observe_attention(request)
        after = model.model(**inputs, use_cache=False).logits
    assert torch.equal(before, after)
    assert model.model.get_decoder().config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_in_bfloat16_the_weights_are_near_those_of_float32(family_folder, family_model, make_image):
    half = load(f"hf:{family_folder('qwen2_vl')}", ModelOptions(device="cpu", dtype="bfloat16", way="plain"))
    request = GenerateRequest(next(chats(make_image)))
    found, exact = half.observe_attention(request), family_model("qwen2_vl").observe_attention(request)
    for kind in KINDS:
        assert found.attention[kind] == pytest.approx(exact.attention[kind], rel=0.15, abs=1e-3)


@pytest.mark.slow
def test_a_configuration_without_a_name_is_eager(family_folder, family_model, make_image):
    model = load(f"hf:{family_folder('llava')}", ModelOptions(device="cpu", way="plain"))
    request = GenerateRequest(next(chats(make_image)))
    config = model.model.get_decoder().config
    config._attn_implementation_internal = None
    found = model.observe_attention(request)
    assert config._attn_implementation_internal is None
    for kind, exact in family_model("llava").observe_attention(request).attention.items():
        assert found.attention[kind] == pytest.approx(exact, abs=1e-5)


@pytest.mark.slow
def test_a_mask_without_rows_is_refused(family_folder, make_image, monkeypatch):
    model = load(f"hf:{family_folder('llava')}", ModelOptions(device="cpu", way="plain"))
    masks = AttentionMaskInterface._global_mapping
    monkeypatch.setitem(masks, "sdpa", lambda *arguments, **more: object())
    plain = AttentionInterface._global_mapping["sdpa"]
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", lambda m, q, k, v, mask, **more: plain(m, q, k, v, None, **more))
    with pytest.raises(UserError, match=r"mask is a object without rows.*try --attn-implementation sdpa"):
        model.observe_attention(GenerateRequest((Message("user", (make_image(1, 56), "What is this?")),)))


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


@pytest.mark.slow
def test_memory_grows_with_the_length_and_not_with_its_square(family_model, make_image):
    """Every tensor of the pass counts; a matrix over 4 times as many tokens would have 16 times as many numbers."""
    model = family_model("llava")
    largest, lengths = [], []
    for words in (500, 2000):
        messages = (Message("user", ("Paris " * words, make_image(1, 56), "What is this?")),)
        with Largest() as seen:
            curves = model.observe_attention(GenerateRequest(messages))
        lengths.append(sum(curves.tokens.values()))
        largest.append(seen.numbers)
    assert lengths[1] > 3.5 * lengths[0]
    assert largest[1] <= 1.05 * largest[0] * lengths[1] / lengths[0]


@pytest.mark.oracle
@pytest.mark.parametrize("family", ["bloom", "mpt", "gptj", "falcon", "codegen", "xglm"])
def test_a_decoder_that_never_calls_the_interface_is_refused(family):
    sizes = {"vocab_size": 32, "hidden_size": 32, "n_embd": 32, "d_model": 32, "n_layer": 2, "n_layers": 2, "num_layers": 2}
    sizes |= {"num_hidden_layers": 2, "n_head": 4, "n_heads": 4, "num_attention_heads": 4, "attention_heads": 4, "ffn_dim": 32}
    config = AutoConfig.for_model(family, **sizes, rotary_dim=4, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(UserError, match=r"never called transformers' attention interface in a pass \(0 calls\)"):
        observe(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


@pytest.mark.slow
def test_keys_that_are_not_the_prompts_tokens_are_refused(family_model, make_image):
    """Llama 3.2 Vision sees images by cross-attention only."""
    messages = (Message("user", ("Look: ", make_image(1, 56), " What is this?")),)
    with pytest.raises(UserError, match=r"MllamaTextCrossAttention.*attends to other keys than the prompt's tokens"):
        family_model("mllama").observe_attention(GenerateRequest(messages))


@pytest.mark.slow
def test_attention_of_another_form_is_refused(family_model, make_image, monkeypatch):
    """The weights that are read have to give the output of the model's own function."""
    model = family_model("llava")
    file = sys.modules["transformers.models.llama.modeling_llama"]
    plain = file.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def colder(module, query, *more, **settings):
        return plain(module, query * 2, *more, **settings)

    monkeypatch.setitem(file.ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", colder)
    messages = (Message("user", ("Look: ", make_image(1, 56), " What is this?")),)
    with pytest.raises(UserError, match="computes attention in a way of its own"):
        model.observe_attention(GenerateRequest(messages))
    assert model.model.get_decoder().config._attn_implementation == "sdpa"


class Layer(torch.nn.Module):
    """What eager attention functions read of an attention module."""

    num_key_value_groups, head_dim = 2, 8

    def __init__(self):
        super().__init__()
        self.sinks = torch.tensor([0.5, -1.0, 2.0, 0.0])


@pytest.mark.oracle
@pytest.mark.parametrize("mask", ["none", "window", "bool"])
@pytest.mark.parametrize("kind", ["softcap", "sinks"])
def test_a_row_equals_that_of_transformers_eager_functions(kind, mask):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    position = torch.arange(9)
    visible = position[:, None] >= position
    if mask != "none":
        visible = visible & (position[:, None] - position < 5)
    additive = torch.zeros(1, 1, 9, 9).masked_fill(~visible, torch.finfo(torch.float32).min)
    layer = Layer()
    if kind == "softcap":
        matrix = gemma2_attention(layer, query, key, value, additive, scaling=0.3, softcap=1.5)[1]
        more = {"scaling": 0.3, "softcap": 1.5}
    else:
        matrix = gpt_oss_attention(layer, query, key, value, additive, scaling=0.3)[1]
        more = {"scaling": 0.3, "sinks": layer.sinks}
    if mask == "bool":
        found = last_row(query, key, visible[-1], **more)
    else:
        found = last_row(query, key, None, **more, sliding_window=5 if mask == "window" else None)
    torch.testing.assert_close(found, matrix[0, :, -1], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_phi_4_names_its_image_token_in_the_towers_configuration(family_folder):
    config = AutoModelForMultimodalLM.from_pretrained(family_folder("phi4_multimodal")).config
    assert image_column(config) == config.vision_config.image_token_id

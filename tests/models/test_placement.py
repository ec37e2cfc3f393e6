"""--device-map, --quantization, --attn-implementation: the scores of a plain load, what is refused, and what is recorded."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
import torch

from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run_header
from iit_bench.types import Message

CHAT = (Message("user", ("What is the capital of France?",)),)
REPLIES = ("Paris", "red", "the square is blue")
PARTS = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu")
TORCHAO = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def llama(save_tiny):
    return save_tiny("llama", hidden_size=64, intermediate_size=128)


def opened(name: Any, **options: Any) -> Any:
    return load_model(name if isinstance(name, str) else f"hf:{name}", ModelOptions(**options), progress=False)


def answers(model: Any, messages: Any = CHAT) -> tuple[tuple[float, ...], str]:
    (scored,) = model.score([ScoreRequest(messages, REPLIES)])
    return scored.logprobs, model.generate([GenerateRequest(messages, 5)])[0].text


# ---------------------------------------------------------------- device maps

ON_DISK = {
    "one layer": PARTS | {"model.layers.0": "cpu", "model.layers.1": "disk"},
    "all but one layer": dict.fromkeys(PARTS, "disk") | {"model.layers.0": "disk", "model.layers.1": "cpu"},
    "the whole model": {"": "disk"},
}


@pytest.mark.parametrize("places", ON_DISK.values(), ids=ON_DISK)
def test_model_with_layers_on_the_disk_answers_like_the_one_in_memory(llama, places):
    model = opened(llama, device_map=json.dumps(places))
    waiting = [name for name, weight in model.model.named_parameters() if weight.is_meta]
    assert waiting  # else nothing was offloaded, and nothing compared
    logprobs, reply = answers(model)
    expected, same = answers(opened(llama, device="cpu"))
    assert logprobs == pytest.approx(expected, abs=1e-6) and reply == same
    assert model.info.device == "cpu"
    assert model.info.details["device map"] == {name: str(device) for name, device in places.items()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto takes the GPU")
def test_auto_without_an_accelerator_is_the_cpu_in_float32(llama):
    model = opened(llama, device_map="auto")
    assert (model.info.device, model.info.dtype) == ("cpu", "float32")
    assert answers(model) == answers(opened(llama, device="cpu"))


LLAVA = [*(f"model.language_model.{name}" for name in ("embed_tokens", "layers.0", "layers.1", "norm", "rotary_emb")), "lm_head"]
LLAVA += ["model.vision_tower", "model.multi_modal_projector"]


@pytest.mark.parametrize("waiting", [["model.vision_tower"], ["model.language_model.layers.1"], LLAVA], ids=["tower", "a layer", "all"])
def test_image_text_model_with_parts_on_the_disk_answers_like_the_one_in_memory(tiny_llava, make_image, waiting):
    model = opened(tiny_llava, device_map=json.dumps(dict.fromkeys(LLAVA, "cpu") | dict.fromkeys(waiting, "disk")))
    assert any(weight.is_meta for weight in model.model.parameters())
    chat = (Message("user", (make_image(1), "What is it?")),)
    logprobs, reply = answers(model, chat)
    expected, same = answers(opened(tiny_llava, device="cpu"), chat)
    assert logprobs == pytest.approx(expected, abs=1e-5) and reply == same


def test_an_adapter_needs_weights_in_memory(llama, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(llama), peft.LoraConfig(target_modules=["q_proj"], r=2))
    adapted.save_pretrained(tmp_path / "lora")
    assert opened(llama, device_map='{"": "cpu"}', adapter=str(tmp_path / "lora")).info.details["adapter"]
    with pytest.raises(UserError, match="cannot be loaded onto weights that wait on the disk"):
        opened(llama, device_map='{"": "disk"}', adapter=str(tmp_path / "lora"))


def wings_places(model: Any, **elsewhere: str) -> str:
    parts = [f"model.{name}" for name, _ in model.model.model.named_children() if name != "layers"]
    layers = [f"model.layers.{i}" for i in range(len(model.model.model.layers))]
    return json.dumps(dict.fromkeys(["lm_head", *parts, *layers], "cpu") | elsewhere)


@pytest.mark.slow
def test_wings_with_parts_on_the_disk_answers_like_the_one_in_memory(make_image):
    plain = opened("wings", device="cpu")
    waiting = {"model.layers.1": "disk", "model.vision_tower": "disk", "model.mm_projector": "disk"}
    model = opened("wings", device_map=wings_places(plain, **waiting))
    assert sum(weight.is_meta for weight in model.model.parameters()) > 20
    for messages in (CHAT, (Message("user", (make_image(1), "What is it?")),)):
        logprobs, reply = answers(model, messages)
        expected, same = answers(plain, messages)
        assert logprobs == pytest.approx(expected, abs=1e-6) and reply == same


def test_wings_refuses_damaged_weights_that_wait_on_the_disk(tmp_path):
    from safetensors.torch import load_file, save_file

    plain = opened("wings", device="cpu")
    folder = tmp_path / "damaged"
    plain.model.save_pretrained(folder)
    plain.tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="NaN or infinite numbers"):
        opened("wings", checkpoint=str(folder), device_map=wings_places(plain, **{"model.layers.1": "disk"}))


# ---------------------------------------------------------------- attention, dtype


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_one_that_is_asked_for(llama, attention):
    model = opened(llama, device="cpu", attn_implementation=attention)
    assert model.model.config._attn_implementation == model.info.details["attention"] == attention
    assert model.score([ScoreRequest(CHAT, REPLIES)])[0].logprobs == pytest.approx(answers(opened(llama, device="cpu"))[0], abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_has_the_scores_of_the_default_and_is_given_no_tree(llama, monkeypatch):
    """What it is given is the subject; its kernel is torch's, and takes half a minute to compile."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    model = opened(llama, device="cpu", attn_implementation="flex_attention")
    assert model.info.details["rows"]["refused"]["tree"] == "flex_attention takes no mask of a tree"  # with one the process would end
    (scored,), (expected,) = (one.score([ScoreRequest(CHAT, ("Paris",))]) for one in (model, opened(llama, device="cpu")))
    assert scored.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


# ---------------------------------------------------------------- quantisation


@TORCHAO
@pytest.mark.slow
def test_quantised_model_scores_like_transformers_own(llama):
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    model = opened(llama, device="cpu", quantization="torchao-int8")
    theirs = AutoModelForCausalLM.from_pretrained(
        llama, dtype=torch.float32, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()), device_map={"": "cpu"}
    )
    prompt = model.tokenizer.encode(model.render(CHAT))
    (scored,) = model.score([ScoreRequest(CHAT, REPLIES)])
    for reply, logprob in zip(REPLIES, scored.logprobs, strict=True):
        row = model.tokenizer.encode(model.render(CHAT) + reply)
        logits = theirs(torch.tensor([row])).logits[0].log_softmax(-1)
        expected = sum(float(logits[i - 1, row[i]]) for i in range(len(prompt), len(row)))
        assert logprob == pytest.approx(expected, abs=1e-4)
    plain = opened(llama, device="cpu")
    assert scored.logprobs != pytest.approx(answers(plain)[0], abs=1e-4)  # it is quantised
    assert model.info.parameters == plain.info.parameters
    assert model.info.details["quantization"]["quant_method"] == "torchao"
    json.dumps(model.info.details)


@TORCHAO
@pytest.mark.slow
def test_wings_quantises_its_backbone_only(make_image):
    model = opened("wings", device="cpu", quantization="torchao-int8")
    kinds = {name: type(weight).__name__ for name, weight in model.model.named_parameters()}
    plain = {name for name, kind in kinds.items() if kind == "Parameter"}
    assert {name.split(".")[3] for name in set(kinds) - plain} == {"self_attn", "mlp"}
    assert any("attn_pool" in name for name in plain) and any("vision_tower" in name for name in plain)
    chat = (Message("user", (make_image(1), "What is it?")),)
    assert answers(model, chat)[0] == pytest.approx(answers(opened("wings", device="cpu"), chat)[0], abs=1.0)


# ---------------------------------------------------------------- sentences

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
WRONG: list[Any] = [
    ({"device_map": "automatic"}, "--device-map 'automatic' is unknown; use auto, balanced"),
    ({"device_map": '{"model"'}, "--device-map .* is no JSON object"),
    ({"device_map": '{"": "cpu", "model.layerz": "cpu"}'}, "--device-map names 'model.layerz', which is no part of this model"),
    ({"device_map": '{"model.layers.1": "disk"}'}, "does not give any device for the following parameters"),
    ({"device_map": '{"": "cpu", "model.layers.1": "disk"}'}, "name each part of the model"),
    ({"device_map": "auto", "device": "cpu"}, "--device-map places the model itself; leave out --device cpu"),
    pytest.param({"device_map": '{"": 0}'}, "--device-map has '' on 0, which is not available", marks=NO_GPU),
    ({"quantization": "4bit"}, "--quantization '4bit' is unknown; use bnb-4bit, bnb-8bit, torchao-int8"),
    ({"attn_implementation": "flash"}, "--attn-implementation 'flash' is unknown; use eager, sdpa"),
    ({"device": "cpu", "attn_implementation": "flash_attention_3"}, "needs a package that is not installed: FlashAttention3"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_what_cannot_be_is_refused_in_one_sentence(llama, options, sentence):
    with pytest.raises(UserError, match=sentence):
        opened(llama, **options)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_missing_package_is_named(llama):
    with pytest.raises(UserError, match="--quantization bnb-4bit needs bitsandbytes, which is not installed; pip install bitsandbytes"):
        opened(llama, quantization="bnb-4bit")


def test_attention_that_an_architecture_lacks_is_refused(save_tiny):
    folder = save_tiny("gpt_neo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]])
    with pytest.raises(UserError, match=r"does not support an attention implementation.*use another --attn-implementation"):
        opened(folder, device="cpu", attn_implementation="sdpa")


def test_quantising_a_quantised_checkpoint_is_refused(save_tiny):
    folder = save_tiny("llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(UserError, match="is quantised already, with gptq; leave out --quantization"):
        opened(folder, quantization="torchao-int8")


@pytest.mark.parametrize("name", ["random", "majority", "openai:m", "vlmeval:x"])
@pytest.mark.parametrize("option", ["device_map", "quantization", "attn_implementation"])
def test_models_that_place_nothing_have_no_such_options(name, option):
    with pytest.raises(UserError, match=f"has no use for --{option.replace('_', '-')}"):
        opened(name, **{option: "auto"})


# ---------------------------------------------------------------- the run's identity


def test_options_are_settings_only_where_they_are_given(llama):
    assert not {"device_map", "quantization", "attn_implementation"} & set(opened(llama, device="cpu").info.settings)
    model = opened(llama, device_map='{"": "cpu"}', attn_implementation="eager")
    assert model.info.settings["device_map"] == '{"": "cpu"}' and model.info.settings["attn_implementation"] == "eager"


def test_device_map_from_python_is_a_mapping(tmp_path):
    options = RunOptions(model="wings", bench=tmp_path, out=tmp_path, device_map={"": "cpu"})  # type: ignore[arg-type]
    assert options.model_options.device_map == '{"": "cpu"}'


@pytest.mark.slow
def test_a_run_belongs_to_its_attention(llama, bench, tmp_path, capsys):
    ask = ["eval", "--quiet", "--model", f"hf:{llama}", "--device", "cpu", "--bench", str(bench.path), "--limit", "1", "--tiers", "T"]
    assert main([*ask, "--out", str(tmp_path / "run"), "--attn-implementation", "eager"]) == 0
    header = load_run_header(tmp_path / "run")
    assert header["model"]["settings"]["attn_implementation"] == "eager"
    assert "--attn-implementation eager" in header["command"]
    assert main([*ask, "--out", str(tmp_path / "run")]) == 2
    assert "holds another run" in capsys.readouterr().err

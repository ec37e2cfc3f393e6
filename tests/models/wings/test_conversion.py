"""Official checkpoints: every name and shape of the 8B model, a shrunken one for real, evaluation, round trip, and bad folders."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from iit_bench.errors import ItemError, UserError
from iit_bench.models.base import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.wings.adapter import load
from iit_bench.models.wings.conversation import IMAGE_SLOT
from iit_bench.models.wings.conversion import INDEX, check_names, empty_model, export_official, load_official, read_headers
from iit_bench.models.wings.official import official_config, official_name, released_config
from iit_bench.models.wings.vision import decode, preprocess
from iit_bench.types import Image, Message

SHAPES = Path(__file__).parents[2] / "data" / "wings_official_shapes.json"
TOWER = "model.vision_tower.vision_tower.vision_model."
# The config.json of the released 8B model: its backbone's, with what the authors' training script sets.
CONFIG_8B = {
    "architectures": ["WingsQwen2ForCausalLM"],
    "model_type": "wings_qwen2",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "lora_dim": 64,
    "model_max_length": 2048,
    "system_prompt_length": 14,
    "image_token_length": 729,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": 1152,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "torch_dtype": "bfloat16",
}


def official_shapes() -> dict[str, tuple[int, ...]]:
    stored = json.loads(SHAPES.read_text())
    shapes = dict(stored["tensors"])
    for prefix, layers in stored["layers"].items():
        for index in range(layers["count"]):
            shapes |= {f"{prefix}{index}.{name}": shape for name, shape in layers["tensors"].items()}
    return {name: tuple(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("fields", [CONFIG_8B, {"model_type": "wings_qwen2"}], ids=["with config.json", "from shapes and tables"])
def test_every_name_and_shape_of_the_released_model(fields: dict[str, Any]) -> None:
    shapes = official_shapes()
    assert len(shapes) == 1388
    model = empty_model(released_config(fields, shapes))
    assert {official_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    config = model.config
    assert (config.mode, config.system_prompt_length, config.tokenizer_max_length, config.released_window) == ("released", 14, 2048, 32768)
    assert (config.image_token_length, config.image_size, config.conversation) == (729, 384, "qwen")
    assert (config.text_config.rope_parameters["rope_theta"], config.vision_config.num_attention_heads) == (1000000.0, 16)


# ---------------------------------------------------------------- a shrunken checkpoint in the same layout


def shrunken(kind: str, vocabulary: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """config.json and tensors: two layers of width 32, rank 4, and a tower of 3 layers whose images are 9 vectors."""
    sizes = {4096: 32, 64: 4, 11008: 40, 151936: vocabulary, 1152: 32, 4304: 24, 729: 9}  # by the size in the 8B model
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for name, shape in official_shapes().items():
        layer = int(name.partition("layers.")[2].partition(".")[0] or 0)
        if layer >= (3 if "vision_tower" in name else 2) or (
            kind == "llama" and "self_attn" in name and name.endswith("proj.bias") and TOWER not in name
        ):
            continue
        small = [sizes.get(size, size) for size in shape]
        if "reweight_module" in name:
            small = [2, 64][: len(small)]
        if kind == "llama" and ".self_attn." in name and TOWER not in name and name.split(".")[-2] in ("k_proj", "v_proj"):
            small[0] //= 2  # grouped queries
        spread = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = (spread + 0.2 * torch.randn(small, generator=generator)).to(torch.bfloat16)
    fields = {
        **{
            key: value
            for key, value in CONFIG_8B.items()
            if key not in ("vocab_size", "intermediate_size", "num_key_value_heads", "lora_dim")
        },
        "model_type": f"wings_{kind}",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "rope_theta": 500.0,
        "image_token_length": 9,
        "mm_hidden_size": 32,
        "model_max_length": 60,
    }
    if kind == "llama":
        fields |= {"rope_scaling": None, "system_prompt_length": 17}
        del fields["sliding_window"], fields["use_sliding_window"]
    return fields, tensors


def write(folder: Path, fields: dict[str, Any], tensors: dict[str, torch.Tensor], index: bool = True) -> Path:
    """Three shards, as the authors' trainer writes them."""
    folder.mkdir(exist_ok=True)
    names = list(tensors)
    files = {}
    for number in range(3):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        part = names[number::3]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    if index:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture(scope="module")
def chatml() -> Any:
    """A tokenizer with the Qwen script's marks and no image token, as the released model's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def folder(request: pytest.FixtureRequest, chatml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp(request.param), *shrunken(request.param, len(chatml)))
    chatml.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_weights_arrive_unchanged_in_the_dtype_asked_for(folder: Path, dtype: torch.dtype | None) -> None:
    model = load_official(folder, "cpu", dtype)
    assert model.config.mode == "released" and not model.training
    stored = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    found = {official_name(name): tensor for name, tensor in model.state_dict().items()}
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        assert found[name].dtype == (dtype or torch.bfloat16)
        assert torch.equal(found[name].to(torch.bfloat16), tensor)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_tower_is_the_checkpoints_own(folder: Path) -> None:
    """Against transformers' SigLIP with a layer more, whose last layer is not looked at (the authors' way)."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    model = load_official(folder, "cpu", torch.float32)
    shape = {"hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 16, "image_size": 42, "patch_size": 14}
    tower = SiglipVisionModel(SiglipVisionConfig(**shape, num_hidden_layers=4, vision_use_head=False)).eval()
    prefix = "model.vision_tower.vision_tower."
    own = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    missing, unexpected = tower.load_state_dict(own, strict=False)
    assert not unexpected and all(".layers.3." in name for name in missing)
    pixels = torch.rand(2, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_images(pixels), tower(pixels, output_hidden_states=True).hidden_states[-2])


def test_a_folder_without_an_index_is_read_as_well(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != INDEX:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_official(tmp_path, "cpu").dtype == torch.bfloat16


def test_export_gives_back_every_byte(folder: Path, tmp_path: Path) -> None:
    model = load_official(folder, "cpu")
    export_official(model, tmp_path, shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    first, second = (
        {name: tensor for file in at.glob("*.safetensors") for name, tensor in load_file(file).items()} for at in (folder, tmp_path)
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert second[name].dtype == tensor.dtype and torch.equal(second[name].view(torch.int16), tensor.view(torch.int16))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.numel() * 2 for tensor in first.values())
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / file, framework="pt") as shard:
            assert name in shard.keys()  # noqa: SIM118 - a shard is no dict
    again = load_official(tmp_path, "cpu")
    assert official_config(again.config) == official_config(model.config)
    known = json.loads((folder / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    assert {key: written.get(key) for key in known if key != "model_max_length"} == {
        key: value for key, value in known.items() if key != "model_max_length"
    } | {"architectures": written["architectures"]}


def test_save_pretrained_keeps_the_mode(folder: Path, chatml: Any, tmp_path: Path) -> None:
    model = load_official(folder, "cpu", torch.float32)
    model.save_pretrained(tmp_path)
    chatml.save_pretrained(tmp_path)
    wings = load(ModelOptions(checkpoint=str(tmp_path), device="cpu"))
    assert wings.info.details["mode"] == "released"
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(wings.model(ids).logits, model(ids).logits)


# ---------------------------------------------------------------- evaluation


def picture(seed: int) -> Image:
    file = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 20 + seed, 3), dtype=np.uint8)).save(file, "PNG")
    return Image(file.getvalue())


LOOK = (Message("user", (picture(1), "\nHue?")),)
TEXT = (Message("user", ("2 <image>?",)),)
TOO_MANY = (*LOOK, Message("assistant", ("red",)), Message("user", (picture(2), "\nAnd it?")))


@pytest.fixture(scope="module")
def qwen(chatml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields, tensors = shrunken("qwen2", len(chatml))
    folder = write(tmp_path_factory.mktemp("evaluated"), fields | {"model_max_length": 400, "image_token_length": 9}, tensors)
    for name in [name for name in tensors if "reweight_module.linear.weight" in name]:
        tensors[name] = torch.randn(2, 512, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    write(folder, fields | {"model_max_length": 400}, tensors)
    chatml.save_pretrained(folder)
    return folder


def naive_ids(tokenizer: Any, user: list[int]) -> list[int]:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    before = encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    return before + user + encode("<|im_end|>\n<|im_start|>assistant\n")


def test_an_official_checkpoint_is_evaluated_token_by_token(qwen: Path, chatml: Any) -> None:
    wings = load(ModelOptions(checkpoint=str(qwen), device="cpu"))
    assert (wings.info.name, wings.info.dtype, wings.info.max_context) == ("wings", "float32", 400)
    assert wings.info.details["mode"] == "released"
    requests = [ScoreRequest(LOOK, ("red", "green")), ScoreRequest(TEXT, ("four", "4"))]
    encode = chatml.encode
    hue = encode("\nHue?", add_special_tokens=False)
    two = encode("2 <image>?", add_special_tokens=False)
    rows = [naive_ids(chatml, [IMAGE_SLOT, *hue]), naive_ids(chatml, two)]  # the second image mark is text and stays text
    pixels = preprocess(decode(LOOK[0].images[0].data), wings.model.config)[None]
    for request, result, row in zip(requests, wings.score(requests), rows, strict=True):
        assert result.prompt_tokens == len(row) - 1 + (8 if request.messages is LOOK else 0)  # the last line break is the reply's
        assert wings.request_tokens(request) >= result.prompt_tokens + max(result.tokens)
        for reply, logprob, tokens in zip(request.continuations, result.logprobs, result.tokens, strict=True):
            said = [row[-1], *encode(reply, add_special_tokens=False)]
            assert tokens == len(said)
            expected, ids = 0.0, row[:-1]
            for token in said:
                with torch.no_grad():
                    logits = wings.model(torch.tensor([ids]), pixel_values=pixels if request.messages is LOOK else None).logits
                expected += float(logits[0, -1].log_softmax(-1)[token])
                ids = [*ids, token]
            assert logprob == pytest.approx(expected, abs=1e-4)


def test_a_batch_scores_and_generates_as_its_requests_alone(qwen: Path) -> None:
    wings = load(ModelOptions(checkpoint=str(qwen), device="cpu"))
    scored = [ScoreRequest(LOOK, ("red", "green")), ScoreRequest(TEXT, ("four",)), ScoreRequest(LOOK[:1], ("blue",))]
    for request, result in zip(scored, wings.score(scored), strict=True):
        assert wings.score([request])[0].logprobs == pytest.approx(result.logprobs, abs=1e-4)
    asked = [GenerateRequest(TEXT, 4), GenerateRequest(LOOK, 6)]
    for request, result in zip(asked, wings.generate(asked), strict=True):
        assert wings.generate([request]) == [result]
        assert result.prompt_tokens + request.max_new_tokens == wings.request_tokens(request)


def test_several_images_are_an_error_of_the_item(qwen: Path) -> None:
    wings = load(ModelOptions(checkpoint=str(qwen), device="cpu"))
    with pytest.raises(ItemError, match="sees one image in a dialogue, this one has 2") as error:
        wings.request_tokens(ScoreRequest(TOO_MANY, ("red",)))
    assert error.value.reason == "several images"


def test_mode_strict_on_official_weights(qwen: Path, chatml: Any, tmp_path: Path) -> None:
    for file in qwen.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    fields = json.loads((qwen / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"mode": "strict"}))
    strict, released = (load(ModelOptions(checkpoint=str(at), device="cpu")) for at in (tmp_path, qwen))
    assert strict.info.details["mode"] == "strict"
    assert len(strict.score([ScoreRequest(TOO_MANY, ("red", "no"))])[0].logprobs) == 2
    both = [model.score([ScoreRequest(TEXT, ("four", "4"))])[0].logprobs for model in (strict, released)]
    assert both[0] == pytest.approx(both[1], abs=1e-4)  # text alone is the same in both
    both = [model.score([ScoreRequest(LOOK, ("red", "no"))])[0].logprobs for model in (strict, released)]
    assert both[0] != pytest.approx(both[1], abs=1e-2)


# ---------------------------------------------------------------- bad folders


def bad(qwen: Path, target: Path, change: Any) -> str:
    """The one sentence that a changed copy is refused with."""
    for file in qwen.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    change(target)
    with pytest.raises(UserError) as error:
        load(ModelOptions(checkpoint=str(target), device="cpu"))
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def first_shard(folder: Path) -> Path:
    return folder / "model-00001-of-00003.safetensors"


def change_tensor(folder: Path, name: str, change: Any) -> None:
    file = next(file for file in folder.glob("*.safetensors") if name in load_file(file))
    tensors = load_file(file)
    new = change(tensors.pop(name))
    save_file(tensors if new is None else tensors | {name: new}, file)


def test_missing_unexpected_and_misshaped_names_are_counted(qwen: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        change_tensor(folder, "model.norm.weight", lambda tensor: None)
        change_tensor(folder, "lm_head.weight", lambda tensor: tensor[:, :-1].contiguous())
        tensors = load_file(first_shard(folder))
        save_file(tensors | {"model.extra.weight": torch.ones(2), "other": torch.ones(1)}, first_shard(folder))

    text = bad(qwen, tmp_path, change)
    assert "1 tensors are missing ('model.norm.weight' first), 2 are unexpected ('model.extra.weight' first)" in text
    assert "1 have another shape ('lm_head.weight' is [259, 31], its config.json needs [259, 32])" in text


def test_a_checkpoint_of_another_width(qwen: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(fields | {"hidden_size": 64}))

    assert "have another shape ('model.embed_tokens.weight' is [259, 32], its config.json needs [259, 64])" in bad(qwen, tmp_path, change)


def test_damaged_and_missing_shards(qwen: Path, tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:-100])

    assert "model-00001-of-00003.safetensors' cannot be read" in bad(qwen, tmp_path, cut)
    assert "lacks 1 of 3 shards, 'model-00001-of-00003.safetensors' first" in bad(
        qwen, tmp_path, lambda folder: first_shard(folder).unlink()
    )

    def twice(folder: Path) -> None:
        (folder / INDEX).unlink()
        (folder / "model-copy.safetensors").write_bytes(first_shard(folder).read_bytes())

    assert "both hold" in bad(qwen, tmp_path, twice)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(qwen: Path, tmp_path: Path, number: float) -> None:
    def change(folder: Path) -> None:
        change_tensor(folder, TOWER + "post_layernorm.bias", lambda tensor: tensor.fill_(number))

    assert f"holds NaN or infinite numbers in '{TOWER}post_layernorm.bias'" in bad(qwen, tmp_path, change)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"mode": "loose"}, "mode 'loose' is unknown"),
        ({"mm_vision_tower": "openai/clip-vit-large"}, "vision tower 'clip-vit-large'"),
        ({"num_attention_heads": None}, "lacks num_attention_heads"),
        ({"rope_theta": [1]}, "config.json"),
    ],
)
def test_config_that_does_not_describe_the_model(qwen: Path, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text()) | fields
        (folder / "config.json").write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

    assert words in bad(qwen, tmp_path, change)


def test_a_folder_without_a_tokenizer(qwen: Path, tmp_path: Path) -> None:
    assert "tokenizer" in bad(qwen, tmp_path, lambda folder: [file.unlink() for file in folder.glob("token*")])


def test_models_the_released_code_does_not_know_are_not_exported(kit: Any, tmp_path: Path) -> None:
    for model in (kit.build("qwen3"), kit.build("qwen2", vision="resnet"), kit.build("qwen2", learners=["visual"])):
        with pytest.raises(UserError, match="use save_pretrained"):
            export_official(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_accounting_needs_only_headers(qwen: Path) -> None:
    headers = read_headers(qwen)
    model = empty_model(released_config(json.loads((qwen / "config.json").read_text()), {name: h.shape for name, h in headers.items()}))
    check_names(model, headers, qwen)
    assert {header.dtype for header in headers.values()} == {"BF16"}

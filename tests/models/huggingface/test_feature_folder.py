"""Features of images on disk: used by later runs of the same tower, computed again where damaged, and never without bound."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.feature_folder import FeatureFolder
from iit_bench.models.huggingface.load import load
from iit_bench.models.load import load_model
from iit_bench.types import Message

FEATURES = {"pooler_output": torch.arange(12.0).reshape(3, 4)}


def files(folder):
    return sorted(folder.glob("*/*.safetensors"))


def scored(checkpoint, folder, make_image):
    """Scores of two chats that share an image, and how many images went through the tower for them."""
    model = load(f"hf:{checkpoint}", ModelOptions(device="cpu", image_cache=str(folder)))
    before = model.chats.features.computed
    chats = [(Message("user", (make_image(1), question)),) for question in ("\nWhat colour?", "\nWhat shape?")]
    requests = [ScoreRequest(chat, ("red", "a blue square")) for chat in chats]
    results = model.score_paths(requests, [model.paths(request) for request in requests])
    return [one.logprobs for one in results], model.chats.features.computed - before


def test_a_later_run_computes_no_image_and_gets_the_same_bits(tiny_llava, make_image, tmp_path):
    first, computed = scored(tiny_llava, tmp_path, make_image)
    again, recomputed = scored(tiny_llava, tmp_path, make_image)
    assert (computed, recomputed) == (1, 0)
    assert again == first
    assert len(files(tmp_path)) == 1


def test_another_language_model_shares_a_towers_features_and_another_tower_does_not(tiny_llava, make_image, tmp_path):
    scored(tiny_llava, tmp_path / "cache", make_image)
    for part, computed in (("language_model", 0), ("vision_tower", 1)):
        copy = shutil.copytree(tiny_llava, tmp_path / part)
        weights = load_file(copy / "model.safetensors")
        name = next(
            one for one in sorted(weights) if part in one and one.endswith("mlp.fc1.weight" if part == "vision_tower" else "up_proj.weight")
        )
        save_file({**weights, name: weights[name] * 1.5}, copy / "model.safetensors", {"format": "pt"})
        assert scored(copy, tmp_path / "cache", make_image)[1] == computed, part


def test_a_configuration_that_changes_features_has_features_of_its_own(tiny_llava, make_image, tmp_path):
    """The projector's activation is in no weight and not in the tower's part of the configuration."""
    scored(tiny_llava, tmp_path / "cache", make_image)
    copy = shutil.copytree(tiny_llava, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"projector_hidden_act": "relu"}))
    assert scored(copy, tmp_path / "cache", make_image)[1] == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:40], lambda data: b""])
def test_damaged_features_are_computed_again(tiny_llava, make_image, tmp_path, damage):
    first, _ = scored(tiny_llava, tmp_path, make_image)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    again, computed = scored(tiny_llava, tmp_path, make_image)
    assert (again, computed) == (first, 1)
    assert scored(tiny_llava, tmp_path, make_image)[1] == 0


def test_the_files_used_longest_ago_make_room(tmp_path):
    one = FeatureFolder(tmp_path, {"tower": "a"})
    one.put("first", FEATURES)
    size = files(tmp_path)[0].stat().st_size
    bounded = FeatureFolder(tmp_path, {"tower": "a"}, limit=2 * size)
    bounded.put("second", FEATURES)
    for number, key in enumerate(("second", "first")):  # "first" was used last
        os.utime(bounded._path(key), (number, number))
    assert bounded.get("first") is not None
    bounded.put("third", FEATURES)
    assert [bounded.get(key) is not None for key in ("first", "second", "third")] == [True, False, True]
    assert torch.equal(bounded.get("third")["pooler_output"], FEATURES["pooler_output"])


def test_models_without_use_for_the_folder_refuse_it(save_tiny, tiny_llava, tmp_path):
    with pytest.raises(UserError, match="text-only and has no features of images; leave out --image-cache"):
        load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu", image_cache=str(tmp_path)))
    with pytest.raises(UserError, match="reads images with every chat"):
        load(f"hf:{tiny_llava}", ModelOptions(device="cpu", image_cache=str(tmp_path), way="plain"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; name a folder"):
        load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu", image_cache=str(tmp_path / "file")))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tiny_llava, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot write .*cache.* choose another folder"):
        load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu", image_cache=str(tmp_path / "file" / "cache")))

"""Processors, generation settings and numbers of Wings by strangers: bounded before they allocate, refused in one sentence where odd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import UserError
from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import TEXT_ONLY, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.modality import text_only
from tests.edited_checkpoints import edit, open_model


@pytest.fixture
def checkpoint(save_tiny: Callable[..., Path]) -> Path:
    return save_tiny("llama")


# ---------------------------------------------------------------- processors, and the first questions


DAMAGED_PROCESSOR: dict[str, tuple[dict[str, Any], str]] = {
    "enlarged to a square": (
        {"image_processor": {"size": {"height": 60000, "width": 60000}}},
        "has size.height 60000, and 13,377 is the most",
    ),
    "enlarged by its shorter side": ({"image_processor": {"size": {"shortest_edge": 9000}}}, "has size.shortest_edge 9000, and 2,048"),
    "cut out": ({"image_processor": {"crop_size": {"height": 10**9, "width": 10**9}}}, "has crop_size.height 1000000000"),
    "tokens": ({"num_additional_image_tokens": 10**9}, "has num_additional_image_tokens 1000000000, and 65,536"),
    "negative": ({"image_processor": {"size": {"height": -5, "width": 10}}}, "cannot be asked as its files say: RuntimeError"),
    "nothing": ({"image_processor": {"size": {"height": 0, "width": 0}}}, "cannot be asked"),
    "no number": ({"image_processor": {"image_mean": ["a", "b", "c"]}}, "cannot be asked"),
    "length": ({"image_processor": {"image_mean": [0, 0, 0, 0, 0, 0, 0]}}, "cannot be asked"),
    "scale": ({"image_processor": {"rescale_factor": "x"}}, "cannot be asked"),
    "filter": ({"image_processor": {"resample": 99}}, "cannot be asked as its files say: KeyError: 99"),
    "divisor": ({"patch_size": 0}, "cannot be asked as its files say: ZeroDivisionError"),
    "deviation": ({"image_processor": {"image_std": [0, 0, 0]}}, "no score of a chat is a finite number"),
}


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return old | {name: merged(old[name], value) if name == "image_processor" else value for name, value in new.items()}


@pytest.mark.parametrize("case", DAMAGED_PROCESSOR)
def test_a_damaged_processor_is_one_sentence_before_a_run(case: str, tiny_llava: Path, tmp_path: Path) -> None:
    fields, words = DAMAGED_PROCESSOR[case]
    folder = shutil.copytree(tiny_llava, tmp_path / "checkpoint")
    edit(folder / "processor_config.json", **merged(json.loads((folder / "processor_config.json").read_text()), fields))
    with pytest.raises(UserError, match=words) as error:
        open_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_the_plain_engine_refuses_scores_that_are_no_numbers_too(tiny_llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llava, tmp_path / "checkpoint")
    fields, words = DAMAGED_PROCESSOR["deviation"]
    edit(folder / "processor_config.json", **merged(json.loads((folder / "processor_config.json").read_text()), fields))
    with pytest.raises(UserError, match=words):
        open_model(folder, way="plain")


@pytest.mark.parametrize("fields", [{"image_token_id": 10**9, "image_token_index": 10**9}, {"vision_feature_layer": 99}])
def test_a_configuration_with_which_nothing_can_be_asked_is_one_sentence(fields: dict[str, Any], tiny_llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llava, tmp_path / "checkpoint")
    edit(folder / "config.json", **fields)
    with pytest.raises(UserError, match=r"cannot be asked as its files say: .*; get its configuration, tokenizer and processor again"):
        open_model(folder)


@pytest.mark.parametrize("settings", [{"size": {"shortest_edge": 9000}}, {"crop_size": {"height": 10**6, "width": 10**6}}])
def test_settings_of_the_command_line_have_the_same_limits(settings: dict[str, Any], tiny_llava: Path) -> None:
    with pytest.raises(UserError, match=r"and [\d,]+ is the most that is read"):
        open_model(tiny_llava, processor_kwargs=settings)


# ---------------------------------------------------------------- generation_config.json, and JSON that is none


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"temperature": NaN, "do_sample": true}', "cannot be read .NaN is no number"),
        ("[" * 100_000, "cannot be read .maximum recursion depth"),
        ('{"eos_token_id": {}}', "has eos_token_id '{}', which is no token id"),
        ('{"eos_token_id": ["x"]}', "has eos_token_id .*, which is no token id"),
        ('{"eos_token_id": 1000000000000000000000000000000}', "has eos_token_id '1000000000000000000000000000000', which is no token id"),
        ('{"suppress_tokens": 0.5}', "has suppress_tokens '0.5', which is no token id"),
        ('{"watermarking_config": {"x": 1}}', "generation_config.json' is refused by transformers: [^;]*; mend or delete the file$"),
    ],
)
def test_a_damaged_generation_config_is_named(text: str, words: str, checkpoint: Path) -> None:
    (checkpoint / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match=words) as error:
        open_model(checkpoint)
    assert str(checkpoint / "generation_config.json") in str(error.value) and "UserError" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model_type": "llama", "rms_norm_eps": NaN}'])
def test_a_configuration_that_no_reader_of_json_takes_is_one_sentence(
    text: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "config.json").write_text(text)
    assert text_only(f"hf:{checkpoint}", ModelOptions()) in ("", TEXT_ONLY)
    with pytest.raises(UserError, match=r"config.json' cannot be read \(.*\); get the file again"):
        open_model(checkpoint)


# ---------------------------------------------------------------- Wings

WRONG_WINGS: dict[str, dict[str, Any]] = {
    "image_size": {"image_size": 60000},
    "image_mean": {"image_mean": ["a", "b", "c"]},
    "image_std": {"image_std": [0, 0, 0]},
    "image_background": {"image_background": [1000, -5, 3]},
    "max_image_pixels": {"max_image_pixels": -1},
    "image_token_length": {"image_token_length": 10**9},
    "learner_scale": {"learner_scale": float("inf")},
    "prefix_length": {"prefix_length": 10**9},
    "image_token_id": {"image_token_id": 10**9},
    "vision_feature_layer": {"vision_feature_layer": [[]]},
    "router_width": {"router_width": "wide"},
}


@pytest.mark.parametrize("field", WRONG_WINGS)
def test_a_wings_configuration_with_odd_numbers_is_one_sentence(field: str, tmp_path: Path) -> None:
    folder = shutil.copytree(ASSETS / "llava", tmp_path / "checkpoint")
    edit(folder / "config.json", **WRONG_WINGS[field])
    with pytest.raises(UserError, match=rf"checkpoint '.*'.* {field} .*; get ") as error:
        load_model("llava", ModelOptions(checkpoint=str(folder), device="cpu"))
    assert "\n" not in str(error.value)


def test_a_wings_checkpoint_whose_tower_gives_other_features_ends_at_load(tmp_path: Path) -> None:
    folder = shutil.copytree(ASSETS / "llava", tmp_path / "checkpoint")
    fields = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", image_size=2 * fields["image_size"])
    with pytest.raises(UserError, match=r"cannot be asked as its files say: image features have \d+ vectors per image"):
        load_model("llava", ModelOptions(checkpoint=str(folder), device="cpu"))

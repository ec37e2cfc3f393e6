"""Whether a model takes images is known from its config.json, and agrees with what the loaded model says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import TEXT_ONLY, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.modality import text_only


@pytest.mark.parametrize("name", ["base-llm", "wings", f"hf:{ASSETS / 'base-llm'}"])
def test_what_is_known_before_loading_is_what_the_loaded_model_says(name: str) -> None:
    can = load_model(name, ModelOptions(device="cpu"), progress=False).capabilities
    assert text_only(name, ModelOptions()) == can.why_not.get("takes_images", "")


@pytest.mark.parametrize(
    ("model_type", "why"), [("llama", TEXT_ONLY), ("llava", ""), ("qwen2_vl", ""), ("phi4_multimodal", ""), ("not_known", ""), (7, "")]
)
def test_a_local_folder_is_judged_by_its_architecture(tmp_path: Path, model_type: object, why: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert text_only(f"hf:{tmp_path}", ModelOptions()) == why


@pytest.mark.parametrize(
    "name", ["hf:someone/not-downloaded", "hf:no such name!", "hf:{tmp}", "openai:x", "random", "wings,base-llm", "nope"]
)
def test_nothing_is_claimed_of_what_is_not_at_hand(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{")
    assert text_only(name.replace("{tmp}", str(tmp_path)), ModelOptions()) == ""

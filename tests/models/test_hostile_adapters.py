"""Adapters of peft whose files are not what they claim: refused in one sentence, before peft works on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from iit_bench.errors import UserError
from iit_bench.models import adapters
from iit_bench.models.checkpoint_files import find_adapter
from iit_bench.models.contract import ModelOptions
from iit_bench.models.huggingface.load import load
from tests.edited_checkpoints import edit


@pytest.fixture
def checkpoint(save_tiny: Callable[..., Path]) -> Path:
    return save_tiny("llama")


def save_adapter(folder: Path, **fields: Any) -> None:
    folder.mkdir(exist_ok=True)
    fields = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], **fields}
    (folder / "adapter_config.json").write_text(json.dumps(fields))


def test_an_adapter_is_no_larger_than_its_tensors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4, 8)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    assert find_adapter(str(tmp_path)) == tmp_path
    edit(tmp_path / "adapter_config.json", r=10**9)
    with pytest.raises(UserError, match=r"adapter_config.json has r 1000000000, and no tensor is wider than 8"):
        find_adapter(str(tmp_path))
    edit(tmp_path / "adapter_config.json", r=4, rank_pattern={"q_proj": 10**9})
    with pytest.raises(UserError, match=r"adapter_config.json has rank 1000000000"):
        find_adapter(str(tmp_path))


def test_weights_of_an_adapter_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    save_file({"a.lora_A.weight": torch.zeros(4, 8, dtype=torch.int8)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    with pytest.raises(UserError, match=r"1 weights, 'a\.lora_A\.weight' \(I8\) first, are whole numbers, and its adapter_config\.json"):
        find_adapter(str(tmp_path))


@pytest.mark.parametrize("rounds", ["101", "9" * 5000])
def test_an_adapter_does_not_decompose_its_base_without_end(rounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft takes the number of rounds from the file."""
    monkeypatch.setattr(adapters, "wrapped", lambda *_: pytest.fail("loaded"))
    save_adapter(tmp_path / "a", init_lora_weights=f"pissa_niter_{rounds}")
    with pytest.raises(UserError, match=r"init_lora_weights of adapter_config\.json asks for more than 100 rounds of decomposition"):
        adapters.load_adapter(torch.nn.Linear(2, 2), tmp_path / "a")


@pytest.mark.parametrize(
    ("copies", "words"),
    [
        ([[0, 10**12]], "asks for more than 256 layers"),
        ([[0, 2]] * 129, "asks for more than 256 layers"),
        ([[0, 0]] * 257, "asks for more than 256 layers"),
        ([[0, "2"]], "is no list of pairs of layers"),
        ({"a": 1}, "is no list of pairs of layers"),
    ],
)
def test_an_adapter_does_not_multiply_layers_without_end(copies: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "wrapped", lambda *_: pytest.fail("loaded"))
    save_adapter(tmp_path / "a", layer_replication=copies)
    with pytest.raises(UserError, match=f"layer_replication of adapter_config.json {words}; get the file again"):
        adapters.load_adapter(torch.nn.Linear(2, 2), tmp_path / "a")


PATTERN = ".*.*.*z"  # harmless with the names that models have


@pytest.mark.parametrize("field", [{"target_modules": PATTERN}, {"rank_pattern": {PATTERN: 4}}, {"layers_pattern": ["h", PATTERN]}])
def test_patterns_of_an_adapter_are_matched_in_a_process_of_their_own_first(
    field: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """peft matches them in this process, and there is no limit."""
    from peft import PeftModel

    monkeypatch.setattr(adapters, "SECONDS", 1)
    monkeypatch.setattr(PeftModel, "__init__", lambda *_, **__: pytest.fail("loaded"))
    save_adapter(tmp_path / "a", **field)
    model = torch.nn.ModuleDict({"a" * 3000: torch.nn.Linear(2, 2)})  # so long a name takes seconds
    with pytest.raises(UserError, match=r"matching '\.\*\.\*\.\*z' of adapter_config\.json .* takes more than 1 seconds") as error:
        adapters.load_adapter(model, tmp_path / "a")
    assert "\n" not in str(error.value)


def test_a_pattern_that_ends_is_peft_s_own_to_match(checkpoint: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(checkpoint)
    get_peft_model(base, LoraConfig(r=2, target_modules=r".*\.layers\.(0|1)\..*[qv]_proj$")).save_pretrained(str(tmp_path / "a"))
    model: Any = load(f"hf:{checkpoint}", ModelOptions(device="cpu", adapter=str(tmp_path / "a")))
    assert "lora" in str(model.model)
    edit(tmp_path / "a" / "adapter_config.json", target_modules="*q_proj")
    with pytest.raises(UserError, match="does not fit the checkpoint: nothing to repeat"):
        load(f"hf:{checkpoint}", ModelOptions(device="cpu", adapter=str(tmp_path / "a")))

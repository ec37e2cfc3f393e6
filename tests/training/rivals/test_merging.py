"""Averages with the base: the LLM moves back along a straight line, the rest stays, and the folder evaluates as any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tuned(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 2 by any means: every weight of stage 1's LLM moved."""
    import shutil

    folder = tmp_path_factory.mktemp("tuned") / "tuned"
    shutil.copytree(inputs["llava-stage1"], folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + (torch.randn(tensor.shape, generator=generator) * 0.1).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def recipe(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("kind: merge", "limit: 2", *lines)))
    return str(path)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_llm_is_the_average_and_the_rest_is_the_tuned_models(
    alpha: float, tuned: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    mine = recipe(tmp_path / "merge.yaml", f"alpha: {alpha}", f"inputs: {{model: '{tuned}', llm: '{inputs['llm']}'}}")
    out = run(mine, (), tmp_path / "out", progress=False)
    base, after, got = (load_file(folder / "model.safetensors") for folder in (inputs["llm"], tuned, out))
    assert set(got) == set(after)
    for name, tensor in got.items():
        expected = after[name]
        if name in base:
            expected = ((1 - alpha) * base[name].double() + alpha * after[name].double()).to(torch.bfloat16)
        torch.testing.assert_close(tensor, expected, rtol=2**-7, atol=1e-6)
    card = json.loads((out / "training.json").read_text())
    assert card["merge"]["alpha"] == alpha and card["merge"]["model"]["name"] == "tuned" and card["merge"]["llm"]["name"] == "llm"
    assert card["scores"]["dev"]["V"]["n"] == 2 and card["steps"] == 0


def test_another_llm_is_refused_in_one_sentence(tuned: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    mine = recipe(tmp_path / "merge.yaml", f"inputs: {{model: '{tuned}', llm: 'shipped:base-llm'}}")
    with pytest.raises(UserError, match="not the LLM of"):
        make_task(load_recipe(mine).recipe)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"), [("alpha: 1.5", "at most 1"), ("inputs: {model: ''}", "trained folder, and"), ("steps: 3", "'steps'")]
)
def test_a_wrong_merge_is_one_sentence(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        make_task(load_recipe(recipe(tmp_path / "merge.yaml", line)).recipe)  # type: ignore[arg-type]

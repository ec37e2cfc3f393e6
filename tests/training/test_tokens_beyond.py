"""A tokenizer with more ids than the decoder's embedding has rows is refused before the first step, or pads with a token that has one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import UserError
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

REFUSED = r"recipe: the tokenizer writes token id \d+ \('zebra'\), and the model's embedding has \d+ rows; give it the tokenizer that"


@pytest.fixture
def decoder(inputs: dict[str, Path], tmp_path: Path) -> Any:
    """decoder("zebra", pad=False) → the tiny LLM with a token more, or None where it is the pad."""
    from transformers import AutoTokenizer

    def made(token: str, pad: bool) -> str:
        folder = tmp_path / "llm"
        shutil.copytree(inputs["llm"], folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"pad_token": token}) if pad else tokenizer.add_tokens([token])
        tokenizer.save_pretrained(folder)
        return str(folder)

    return made


@pytest.mark.parametrize("recipe", ["lab-wings-stage1", "lab-llava-stage1", "lab-base"])
def test_a_word_without_a_row_is_refused_before_the_first_step(recipe: str, tiny: dict[str, tuple[str, ...]], decoder: Any) -> None:
    key = "inputs.model" if recipe == "lab-base" else "inputs.llm"
    with pytest.raises(UserError, match=REFUSED):
        make_task(load_recipe(recipe, [*tiny[recipe], f"{key}={decoder('zebra', pad=False)}"]).recipe)


def test_a_pad_without_a_row_is_not_padded_with(tiny: dict[str, tuple[str, ...]], decoder: Any) -> None:
    """Llama's descendants have such pads."""
    recipe = load_recipe("lab-wings-stage1", [*tiny["lab-wings-stage1"], f"inputs.llm={decoder('<|filler|>', pad=True)}"]).recipe
    task: Any = make_task(recipe)
    rows = sorted(task.rows(0), key=lambda row: len(row.ids))
    assert len(rows[0].ids) < len(rows[-1].ids)
    assert float(task.loss([rows[0], rows[-1]]).detach()) > 0

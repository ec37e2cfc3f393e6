"""A model is asked in the chat template that it was trained by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.training import chat, dialogues
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from tests.training.test_chat import QWEN3


@pytest.fixture(scope="module")
def qwen(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3, whose template writes an empty thought before the last reply."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("qwen3")
    tokenizer = AutoTokenizer.from_pretrained(inputs["llm"])
    tokenizer.chat_template = QWEN3
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    config = Qwen3Config(**shape, head_dim=12, vocab_size=len(tokenizer), max_position_embeddings=1024, tie_word_embeddings=True)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", ["chatml", ""])
def test_what_is_asked_has_the_tokens_that_were_trained_on(template: str, qwen: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    """By the recipe's ChatML, and by Qwen3's own template: dialogues of one to three turns, the last reply of each scored."""
    small = [f"inputs.llm={qwen}", f"inputs.tower={inputs['tower']}", "inputs.tower_layer=0", "inputs.context=1024", "model.rank=4"]
    recipe: Any = load_recipe("qwen3-0.6b-wings-stage1", [*small, f"inputs.template='{template}'", "run.precision=float32"]).recipe
    task: Any = make_task(recipe)
    task.save(tmp_path / "model")
    task.load(tmp_path / "model")  # saved in bfloat16
    model: Any = load_model("wings", ModelOptions(checkpoint=str(tmp_path / "model"), device="cpu"))
    for turn_count in (1, 2, 3):
        drawn = dialogues.one(dialogues.of(recipe.data), recipe.data, turn_count, dialogues.generator(0, turn_count))
        turns = chat.messages(drawn)
        row = chat.encode(task.tokenizer, turns, model.encoder.image_token_length)
        request = ScoreRequest(tuple(turns[:-1]), (turns[-1].text,))
        asked = model.encoder.encode(request.messages, request.continuations)
        ids = asked.input_ids + asked.replies[0]
        assert row.ids[: len(ids)] == ids
        assert row.labels[len(asked.input_ids) : len(ids)] == asked.replies[0]
        assert task.tokenizer.decode(row.ids[len(ids) :]).strip() == ("<|im_end|>" if template else "<|end|>")
        alone = [chat.IGNORED] * len(asked.input_ids) + asked.replies[0]
        with torch.no_grad():
            trained = float(task.loss([chat.Row(ids, alone, row.images)]))
        assert model.score([request])[0].logprobs[0] == pytest.approx(-trained, rel=1e-4)

"""Stage "base": the nano LLM, from random weights, on facts and described scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from iit_bench.models.checkpoint_check import refused
from iit_bench.models.checkpoints import load_whole
from iit_bench.training import assets, batches, chat, dialogues, fused_llm, last_layer, scores, sources, start, tokenizer
from iit_bench.training.records import Dialogues
from iit_bench.training.stages import BaseRecipe
from iit_bench.types import Question

HELD_OUT = 64  # rows of a validation loss


class BaseTask(batches.ChatRows):
    """A `loop.Task`: next-token loss on the assistant's replies."""

    def __init__(self, recipe: BaseRecipe) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        shape = recipe.model
        self.recipe = recipe
        self.tokenizer = tokenizer.make(shape.vocabulary, shape.context, tuple(recipe.data.sources))
        config = LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.module: Any = LlamaForCausalLM(config)
        if recipe.inputs.model:
            self.load(assets.find(recipe.inputs.model, "inputs.model"))
            chat.check_template(self.tokenizer, f"recipe key inputs.model: {recipe.inputs.model}", "get its chat_template.jinja again")
            start.check_tokens(self.module, self.tokenizer, recipe.data)
        self.groups = {"llm": list(self.module.parameters())}
        self._draw = dialogues.mixed(recipe.data.sources) if recipe.data.sources else dialogues.facts_and_scenes(recipe.scenes)

    def rows(self, step: int) -> list[chat.Row]:
        """The chats of the step's batch."""
        rng = dialogues.generator(self.recipe.seed, step)
        drawn = dialogues.batch(self._draw, self.recipe.data, self.recipe.optim.batch, rng)
        return [chat.encode(self.tokenizer, chat.messages(dialogue)) for dialogue in drawn]

    def held_out(self) -> list[chat.Row]:
        """Text questions in wordings that are not taught."""
        chosen = sources.questions(sources.text_of(self.recipe.data), "dev", HELD_OUT)
        return [chat.encode(self.tokenizer, chat.messages([question])) for question in chosen]

    def held_out_sources(self) -> list[dict[str, Any]]:
        """How many of them are of each source."""
        return sources.counts(sources.text_of(self.recipe.data), "dev", HELD_OUT)

    def loss(self, rows: Sequence[chat.Row]) -> torch.Tensor:
        """Summed cross-entropy of the labelled tokens, a scalar."""
        self.in_training(True)
        if self.packs():
            return fused_llm.loss(self.module, self.blocks(rows))
        batch = batches.collate(rows, self.tokenizer.pad_token_id).to(self.module.device)
        return torch.nn.functional.cross_entropy(self.reply_logits(batch).float(), scores.reply_targets(batch)[1], reduction="sum")

    def reply_logits(self, batch: batches.Batch) -> torch.Tensor:
        """Logits where the next token is labelled: the head is a fifth of this model's work, and only replies need it."""
        batch = batch.to(self.module.device)
        keep, _ = scores.reply_targets(batch)
        with last_layer.only_at(self.module, torch.nn.functional.pad(keep, (0, 1))):
            hidden = self.module.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
        return self.module.lm_head(hidden[:, :-1][keep])

    def score(self, split: str, limit: int | None) -> dict[str, scores.Score]:
        """See `text_scores`."""
        return text_scores(self.tokenizer, self.reply_logits, split, limit, self.recipe.data)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer."""
        save_llm(self.module, self.tokenizer, folder)

    def load(self, folder: Path) -> None:
        """Put the weights of a saved folder in place of the trained ones, to score exactly what was saved."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        with refused(f"{folder} cannot be loaded"):
            self.module = load_whole(AutoModelForCausalLM, folder, dtype=torch.float32, use_safetensors=True)
            self.tokenizer = AutoTokenizer.from_pretrained(folder)


def text_scores(tok: Any, logits: scores.ReplyLogits, split: str, limit: int | None, data: Dialogues) -> dict[str, scores.Score]:
    """Text-only accuracies of any model.

    Text questions (T, and by subject, or of several sources by source), after another one (TT), after a described picture (ST), and
    described pictures (S). The histories are drawn, the targets are the same in all.
    """
    names = sources.text_of(data)
    questions = sources.questions(names, "test" if split == "test" else "dev", limit)
    rng = dialogues.generator(0, len(questions), 1)
    others = [question for name in names for question in sources.taught(name)]
    practice = [sources.picks(name) for name in sources.practice_of(data)]
    by_name: dict[str, scores.Score] = {}
    for part in dict.fromkeys(sources.part(question, names) for question in questions):
        of_part = [[question] for question in questions if sources.part(question, names) == part]
        by_name[f"T {part}"] = scores.accuracy(tok, logits, of_part)
    by_name["T"] = scores.Score(sum(score.correct for score in by_name.values()), len(questions))
    questions = sources.some(questions, 500)

    def pictured() -> Question:
        return practice[rng.integers(len(practice)) if len(practice) > 1 else 0](rng, None)

    by_name["TT"] = scores.accuracy(tok, logits, [[others[rng.integers(len(others))], question] for question in questions])
    by_name["ST"] = scores.accuracy(tok, logits, [[pictured(), question] for question in questions])
    by_name["S"] = scores.accuracy(tok, logits, [[pictured()] for _ in range(limit or 500)])
    return scores.asked(by_name)


def save_llm(module: Any, tok: Any, folder: Path) -> None:
    """Model in bfloat16 safetensors, and its tokenizer with the chat template."""
    import copy

    saved = copy.deepcopy(module).to(torch.bfloat16)
    for part in ("text_config", "vision_config"):
        if hasattr(saved.config, part):
            getattr(saved.config, part)._name_or_path = ""  # the folder it was made in is not published
    saved.save_pretrained(folder)
    tok.save_pretrained(folder)

"""Scores during and after training: four-choice cloze by the sum of log-probabilities (docs/spec/iit.md#scoring, `acc`).

A small scorer of its own, so that training needs no evaluator; the evaluators score the shipped models again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from iit_bench import asking
from iit_bench.training import batches, chat
from iit_bench.types import Question

ReplyLogits = Callable[[batches.Batch], torch.Tensor]  # batch -> logits [labelled tokens, vocabulary], row by row


@dataclass(frozen=True)
class Score:
    """Correct answers out of n."""

    correct: int
    n: int

    @property
    def acc(self) -> float:
        return self.correct / self.n if self.n else float("nan")

    def as_json(self) -> dict[str, float | int]:
        """Accuracy to four digits, and n."""
        return {"acc": round(self.acc, 4), "n": self.n}


def asked(scores: Mapping[str, Score]) -> dict[str, Score]:
    """The scores that some question was asked for."""
    return {name: score for name, score in scores.items() if score.n}


def reply_targets(batch: batches.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the next token is a labelled one (bool [rows, length - 1]) and which token it is (int64 [labelled tokens])."""
    after = batch.labels[:, 1:]
    keep = after != chat.IGNORED
    return keep, after[keep]


def accuracy(tokenizer: Any, logits: ReplyLogits, dialogues: Sequence[Sequence[Question]], image_tokens: int = 1, rows: int = 128) -> Score:
    """How often the last question's gold choice has the highest sum of log-probabilities, after gold replies. Ties take the first."""
    order = sorted(range(len(dialogues)), key=lambda i: sum(len(question.question) for question in dialogues[i]))  # little padding
    sums: dict[tuple[int, int], float] = {}
    todo: list[tuple[int, list[int], chat.Row, list[list[int]]]] = []  # dialogue, choices that share the row, row, tokens of each choice
    for i in order:
        of_choices = _choice_rows(tokenizer, dialogues[i], image_tokens)
        tokens = [[label for label in row.labels if label != chat.IGNORED] for row in of_choices]
        if all(len(some) == 1 for some in tokens):  # one forward pass has them all
            todo.append((i, list(range(len(tokens))), of_choices[0], tokens))
        else:
            todo += [(i, [k], row, [tokens[k]]) for k, row in enumerate(of_choices)]
    for first in range(0, len(todo), rows):
        some = todo[first : first + rows]
        batch = batches.collate([row for _, _, row, _ in some], tokenizer.pad_token_id)
        with torch.inference_mode():
            logprobs = logits(batch).double().log_softmax(-1).cpu()
        start = 0
        for i, choices, _, of_each in some:
            for k, wanted in zip(choices, of_each, strict=True):
                sums[(i, k)] = float(logprobs[range(start, start + len(wanted)), wanted].sum())
            start += len(of_each[0])
    correct = 0
    for i, dialogue in enumerate(dialogues):
        totals = [sums[(i, k)] for k in range(len(dialogue[-1].choices))]
        correct += totals.index(max(totals)) == dialogue[-1].answer
    return Score(correct, len(dialogues))


def _choice_rows(tokenizer: Any, dialogue: Sequence[Question], image_tokens: int) -> list[chat.Row]:
    """Per choice: the dialogue up to the last question, then the choice. Only the choice's own tokens are labelled (no end-of-turn)."""
    turns = chat.messages(dialogue)[:-1]
    prompt = chat.render(tokenizer, turns, generation_prompt=True)
    return [
        chat.tokens(tokenizer, prompt + reply, [(len(prompt), len(prompt) + len(reply))], turns=turns, image_tokens=image_tokens)
        for reply in asking.replies(dialogue[-1], "cloze")
    ]

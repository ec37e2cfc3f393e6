"""Scores during and after training: four-choice cloze by the sum of log-probabilities (IIT.md "Scoring", `acc`).

A small scorer of its own, so that training needs no evaluator; the evaluators score the shipped models again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from iit_bench import asking
from iit_bench.training import chat
from iit_bench.types import Question

ReplyLogits = Callable[[chat.Batch], torch.Tensor]  # batch -> logits [labelled tokens, vocabulary], row by row


@dataclass(frozen=True)
class Score:
    """Correct answers out of n."""

    correct: int
    n: int

    @property
    def acc(self) -> float:
        return self.correct / self.n if self.n else float("nan")

    def as_json(self) -> dict[str, float | int]:
        return {"acc": round(self.acc, 4), "n": self.n}


def reply_targets(batch: chat.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the next token is a labelled one (bool [rows, length - 1]) and which token it is (int64 [labelled tokens])."""
    after = batch.labels[:, 1:]
    keep = after != chat.IGNORED
    return keep, after[keep]


def accuracy(tokenizer: Any, logits: ReplyLogits, dialogues: Sequence[Sequence[Question]], image_tokens: int = 1, rows: int = 128) -> Score:
    """How often the last question's gold choice has the highest sum of log-probabilities, after gold replies. Ties take the first."""
    order = sorted(range(len(dialogues)), key=lambda i: sum(len(question.question) for question in dialogues[i]))  # little padding
    requests = [(i, k) for i in order for k in range(len(dialogues[i][-1].choices))]
    sums: dict[tuple[int, int], float] = {}
    for first in range(0, len(requests), rows):
        some = requests[first : first + rows]
        batch = chat.collate([_choice_row(tokenizer, dialogues[i], k, image_tokens) for i, k in some], tokenizer.pad_token_id)
        keep, targets = reply_targets(batch)
        with torch.inference_mode():
            logprobs = logits(batch).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
        totals = torch.zeros(len(some), dtype=torch.float64).index_add_(0, keep.nonzero()[:, 0], logprobs.double())
        sums.update(zip(some, totals.tolist(), strict=True))
    correct = 0
    for i, dialogue in enumerate(dialogues):
        of_choices = [sums[(i, k)] for k in range(len(dialogue[-1].choices))]
        correct += of_choices.index(max(of_choices)) == dialogue[-1].answer
    return Score(correct, len(dialogues))


def _choice_row(tokenizer: Any, dialogue: Sequence[Question], choice: int, image_tokens: int) -> chat.Row:
    """The dialogue up to the last question, then `choice` as the reply; only the reply's own tokens are labelled (no end-of-turn)."""
    turns = [*chat.messages(dialogue)[:-1]]
    prompt = chat.render(tokenizer, turns, generation_prompt=True)
    reply = asking.replies(dialogue[-1], "cloze")[choice]
    return chat.tokens(tokenizer, prompt + reply, [(len(prompt), len(prompt) + len(reply))], turns, image_tokens)

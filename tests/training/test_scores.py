"""The scorer against a loop over choices with transformers' own logits."""

from __future__ import annotations

import pytest
import torch

from iit_bench.data import facts
from iit_bench.training import chat, scores
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from iit_bench.types import Question


def brute_force(task, dialogues: list[list[Question]]) -> int:
    """One choice at a time, no batches, no padding: sum of log-probabilities of the choice's tokens."""
    correct = 0
    for dialogue in dialogues:
        prompt = task.tokenizer(chat.render(task.tokenizer, chat.messages(dialogue)[:-1], True), add_special_tokens=False)["input_ids"]
        sums = []
        for choice in dialogue[-1].choices:
            reply = task.tokenizer(choice, add_special_tokens=False)["input_ids"]
            logits = task.module(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
            sums.append(sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(reply)))
        correct += max(range(len(sums)), key=sums.__getitem__) == dialogue[-1].answer
    return correct


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["capital", "continent", "iso code", "atomic number"])
def test_accuracy_agrees_with_one_choice_at_a_time(subject: str, tiny: dict[str, tuple[str, ...]]) -> None:
    task = make_task(load_recipe("lab-base", tiny["lab-base"]).recipe)
    told = facts.questions("taught")
    asked = [question for question in facts.questions("dev") if question.subject == subject][:25]
    dialogues = [[told[7 * i], question] if i % 2 else [question] for i, question in enumerate(asked)]
    with torch.no_grad():
        expected = brute_force(task, dialogues)
    got = scores.accuracy(task.tokenizer, task.reply_logits, dialogues, rows=7)
    assert got == scores.Score(expected, 25)

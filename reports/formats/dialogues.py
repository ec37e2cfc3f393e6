"""What a run of suite iit was asked and answered, turn by turn: the chats of its benchmark with the run's predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iit_bench.asking import LETTERS, chat
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import Image, Message, Prediction


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One scored turn."""

    prediction: Prediction
    messages: tuple[Message, ...]  # what was asked, up to this turn's question; the system prompt first
    failure: Mapping[str, Any] | None = None  # its line of errors.jsonl
    prompt: str | None = None  # what the model's template made of the messages; None where it was not recorded
    image_places: tuple[int, ...] = ()  # as `types.SeenPrompt` has them

    @property
    def id(self) -> str:
        """Unique in the run: the dialogue's id, of a history turn with its position behind it."""
        return turn_id(self.prediction)

    @property
    def gold(self) -> str:
        """The right reply: the letter of the gold choice, or its text where there are more choices than letters."""
        return label(self.prediction, self.prediction.answer)

    @property
    def answer(self) -> str | None:
        """The choice that the model's answer means; None where it means none."""
        chosen = self.prediction.chosen
        return None if chosen < 0 else label(self.prediction, chosen)


def turn_id(prediction: Prediction) -> str:
    """The dialogue's id, of a history turn with its position behind it."""
    return prediction.dialogue if prediction.is_target else f"{prediction.dialogue}#{prediction.position}"


def label(prediction: Prediction, choice: int) -> str:
    """A choice's letter, or its text where there are more choices than letters."""
    return LETTERS[choice] if len(prediction.choices) <= len(LETTERS) else prediction.choices[choice]


def turns(run: IitRun, benchmark: Benchmark) -> Iterator[Turn]:
    """The scored turns of a run, in the order of its predictions. Chats are made when they are asked for: images are held once."""
    header = run.run
    own: dict[str, dict[int, str]] = defaultdict(dict)  # dialogue -> position -> the model's reply
    if header["history"] == "own":
        for one in run.predictions:
            own[one.dialogue][one.position] = one.reply
    failures = {(line["dialogue"], line["position"]): line for line in run.errors}
    dialogues = {dialogue.id: dialogue for dialogue in benchmark.dialogues}
    prompts = _prompts(run)
    system = (Message("system", (header["system_prompt"],)),) if header.get("system_prompt") else ()
    for prediction in run.predictions:
        dialogue = dialogues[prediction.dialogue]
        questions = [benchmark.questions[turn] for turn in dialogue.turns[: prediction.position + 1]]
        replies = [own[dialogue.id].get(at, "") for at in range(prediction.position)] if own else None
        messages = (*system, *chat(questions, header["style"], dialogue.connectors, replies))
        if header["model"]["blind"]:
            messages = tuple(replace(one, parts=tuple(part for part in one.parts if not isinstance(part, Image))) for one in messages)
        key = (prediction.dialogue, prediction.position)
        prompt, places = prompts.get(key, (None, ()))
        yield Turn(prediction=prediction, messages=messages, failure=failures.get(key), prompt=prompt, image_places=tuple(places))


def _prompts(run: IitRun) -> dict[tuple[str, int], tuple[str | None, Sequence[int]]]:
    columns = run.prompt_columns()
    if columns is None:
        return {}
    rows = zip(*(columns[name].to_pylist() for name in ("dialogue", "position", "prompt", "image_places")), strict=True)
    return {(dialogue, position): (prompt, places) for dialogue, position, prompt, places in rows}

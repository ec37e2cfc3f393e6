"""What is trained on: dialogues of questions, drawn anew for every step from nothing but (seed, step).

So a step's batch does not depend on the steps before it, and a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from iit_bench.data import facts
from iit_bench.training import described, sources
from iit_bench.training.records import Dialogues, Replay
from iit_bench.types import Question

Draw = Callable[[np.random.Generator, Question | None], Question]  # a question, of the same subject as another if one is given


def generator(seed: int, step: int, salt: int = 0) -> np.random.Generator:
    """The random numbers of one step."""
    return np.random.default_rng([seed, step, salt])


def batch(draw: Draw, data: Dialogues, turns: int, rng: np.random.Generator) -> list[list[Question]]:
    """Dialogues of equal length with about `turns` turns together: a step's cost hardly varies and little is padded."""
    length = int(rng.choice(data.turns))
    return [one(draw, data, length, rng) for _ in range(max(1, round(turns / length)))]


def one(draw: Draw, data: Dialogues, length: int, rng: np.random.Generator) -> list[Question]:
    """A dialogue of `length` turns."""
    dialogue = [draw(rng, None)]
    while len(dialogue) < length:
        alike = rng.random() < data.alike
        dialogue.append(draw(rng, dialogue[0] if alike else None))
    return dialogue


def facts_and_scenes(scenes: float) -> Draw:
    """Taught facts, and described scenes with probability `scenes`."""
    fact, known = sources.picks("facts"), {question.subject for question in facts.questions("taught")}

    def draw(rng: np.random.Generator, like: Question | None) -> Question:
        if like is not None:
            return (fact if like.subject in known else described.scene)(rng, like.subject)
        return described.scene(rng) if rng.random() < scenes else fact(rng, None)

    return draw


def vqa() -> Draw:
    """VQA questions of the train images (dev images are not among them), each with its image."""
    pick = sources.picks("easyvqa")
    return lambda rng, like: pick(rng, like.subject if like else None)


def of(data: Dialogues) -> Draw:
    """How the turns of a visual stage are drawn, as its recipe's `data` say."""
    draw = mixed(data.sources) if data.sources else vqa()
    return replayed(draw, data.replay) if data.replay.share else draw


def replayed(draw: Draw, replay: Replay) -> Draw:
    """`draw`, and text with the probability that `replay` says; a turn like another is of its kind."""
    text = mixed(replay.sources)

    def both(rng: np.random.Generator, like: Question | None) -> Question:
        is_text = rng.random() < replay.share if like is None else like.modality == "T"
        return (text if is_text else draw)(rng, like)

    return both


def without_images(dialogue: Sequence[Question]) -> list[Question]:
    """The same questions, choices and answers with no image shown."""
    return [replace(question, images=()) for question in dialogue]


def mixed(shares: Mapping[str, float]) -> Draw:
    """Turns from several sources in proportion to their shares; a turn like another is of its source and subject."""
    names = list(shares)
    ends = np.cumsum([shares[name] for name in names])

    def draw(rng: np.random.Generator, like: Question | None) -> Question:
        if like is not None:
            return sources.picks(like.source)(rng, like.subject)
        place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        return sources.picks(names[min(place, len(names) - 1)])(rng, None)

    return draw

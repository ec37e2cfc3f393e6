"""What the model read before each scored turn: `prompts.parquet` of a run folder (docs/spec/iit.md#asking).

It is made of the requests of a finished run, so it is the same whether the run was resumed or not. The text of a chat is known already:
the model rendered it to be asked (`models.rendering.RenderedChats`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from evaluators.iit.turns import Asking, Course, Rendering
from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateRequest, Model, ScoreRequest
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.runs import EARLIER_TURN, PROMPTS
from iit_bench.storage.tables import write_table
from iit_bench.types import Prediction, SeenPrompt


def write_prompts(
    folder: Path,
    model: Model,
    courses: Sequence[Course],
    outcome: tuple[Sequence[Prediction], Sequence[Mapping[str, Any]]],
    asking: Asking,
    rendering: Rendering,
) -> None:
    """Write the prompts of a run, in the order of its predictions; no file where none was rendered in this process.

    Args:
        folder: the run folder.
        courses: the dialogues, all turns asked.
        outcome: predictions and error lines, as `evaluate.ask` returns them. A turn that was not asked has no prompt.
    """
    if model.capabilities.recorded:
        return
    predictions, errors = outcome
    unasked = {(error["dialogue"], error["position"]) for error in errors if error["reason"] == EARLIER_TURN}
    of_dialogue = {course.dialogue.id: course for course in courses}
    turns = ((of_dialogue[one.dialogue], one.position) for one in predictions if (one.dialogue, one.position) not in unasked)
    rows = _rendered(model, turns, asking, rendering)
    first = next(rows, None)
    if first is None:
        (folder / PROMPTS).unlink(missing_ok=True)
        return

    def write(file: BinaryIO) -> None:
        write_table(SeenPrompt, _all(first, rows), file, checksums=True)

    write_atomic(folder / PROMPTS, write)


def _rendered(model: Model, turns: Iterable[tuple[Course, int]], asking: Asking, rendering: Rendering) -> Iterator[SeenPrompt]:
    for course, position in turns:
        request = rendering.request(course, position, asking)
        assert isinstance(request, ScoreRequest | GenerateRequest), "suite iit asks chats"
        try:
            seen = model.rendered(request)
        except ItemError:  # its error line has the reason
            continue
        if seen is not None:
            digest = hashlib.sha256(seen.text.encode()).hexdigest()
            yield SeenPrompt(course.dialogue.id, position, seen.text, seen.images, digest)


def _all(first: SeenPrompt, rest: Iterable[SeenPrompt]) -> Iterator[SeenPrompt]:
    yield first
    yield from rest

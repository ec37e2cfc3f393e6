"""Steps by the equations of the authors' code, in a model that is saved as mode `strict`.

Defined in docs/spec/wings.md#b12-training-in-mode-released, #a5-causality. By these equations text after an image sees later text, the
answer that is to be learned among it. What that does to a model which is then asked as `strict` can be compared with a training of the same
steps in mode `strict`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from iit_bench.training.chat import Row


def slotted(rows: Sequence[Row], config: Any) -> list[Row]:
    """Rows whose image is one slot, as mode `released` takes it, in place of T copies of the image's id.

    Args:
        rows: each with one image.
        config: of the model; says the id and T.
    """
    made = []
    for row in rows:
        start = row.ids.index(config.image_token_id)
        rest = start + config.image_token_length
        ids, labels = (values[: start + 1] + values[rest:] for values in (row.ids, row.labels))
        made.append(dataclasses.replace(row, ids=ids, labels=labels))
    return made


@contextlib.contextmanager
def equations(config: Any) -> Iterator[None]:
    """Compute passes over whole rows in mode `released`, without a system prompt to leave out of the text keys (S = 0)."""
    before = config.mode, config.system_prompt_length
    config.mode, config.system_prompt_length = "released", 0
    try:
        yield
    finally:
        config.mode, config.system_prompt_length = before

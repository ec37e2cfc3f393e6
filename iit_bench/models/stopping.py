"""What ends a row of transformers' `generate` before its limit: stop strings of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList


class StopStrings(StoppingCriteria):
    """Ends a row once the text of its new tokens holds a stop string.

    Only the last tokens are looked at, as many as the longest stop string has bytes: a token spells one byte or more. It saves time, and
    tells where each row ended by itself, whatever the rows beside it went on to do; the text is cut at the stop string afterwards.

    Attributes:
        ended: per row, its number of new tokens when it ended; None while it is continued, and under beam search.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], rows: int) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.ended: list[int | None] = [None] * rows
        self._tail = max(len(stop.encode()) for stop in stops)
        self._count = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self._count += 1  # asked once after every token
        texts = self.tokenizer.batch_decode(input_ids[:, -min(self._tail, self._count) :])
        holds = [any(stop in text for stop in self.stops) for text in texts]
        if len(holds) != len(self.ended):  # several beams per row, in changing places
            return torch.tensor(holds, device=input_ids.device)
        self.ended = [self._count if count is None and found else count for count, found in zip(self.ended, holds, strict=True)]
        return torch.tensor([count is not None for count in self.ended], device=input_ids.device)

    def settings(self) -> dict[str, Any]:
        """For `generate`."""
        return {"stopping_criteria": StoppingCriteriaList([self])}

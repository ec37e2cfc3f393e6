"""A prompt read once, and copies of its cache continued by each reply: for models that neither run rows of a tree nor copy a cache by rows.

Caches with recurrent states know no selection of rows, but a copy of the whole. Some are continued wrongly by several tokens at once,
without an error, and rightly one by one; which holds for a model is found by a check at load (`token_rows`).
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

import torch

# How many tokens a copy takes per pass; "" = copies are not continued.
Forks = Literal["several tokens", "single tokens", ""]
CACHES = ("past_key_values", "cache_params", "state")  # what models call their cache, as an argument and in their output


class ForkedCache:
    """Logits of rows that begin with the same prompt, one prompt at a time."""

    def __init__(self, model: Any, device: str, forks: Forks) -> None:
        self.model, self.device, self.forks = model, device, forks
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions, self._takes_logits_to_keep = "position_ids" in accepted, "logits_to_keep" in accepted
        self._prompt: list[int] = []
        self._name, self._cache = "", None  # of the prompt
        self._last = torch.empty(0)  # logits [1, V] after it

    def row_logits(self, row: list[int], last: int) -> torch.Tensor:
        """Logits [last, V] of a row's last tokens, the first of them the prompt's last one.

        Raises:
            TypeError: the model returns no cache.
        """
        prompt, read = row[: len(row) - last + 1], row[len(row) - last + 1 :]
        if prompt != self._prompt:
            self._prefill(prompt)
        if not read:
            return self._last
        cache, logits, done = copy.deepcopy(self._cache), [self._last], len(prompt)
        for part in [read] if self.forks == "several tokens" else [[token] for token in read]:
            output = self._pass(part, done, **{self._name: cache})
            cache, done = output[self._name], done + len(part)
            logits.append(output.logits[0, -len(part) :])
        return torch.cat(logits)

    def _prefill(self, prompt: list[int]) -> None:
        self._prompt = []
        output = self._pass(prompt, 0, **({"logits_to_keep": 1} if self._takes_logits_to_keep else {}))
        self._name = next((name for name in CACHES if output.get(name) is not None), "")
        if not self._name:
            raise TypeError("the model returns no cache")
        self._cache, self._last, self._prompt = output[self._name], output.logits[0, -1:], prompt

    def _pass(self, tokens: list[int], done: int, **more: Any) -> Any:
        positions = torch.arange(done, done + len(tokens), device=self.device)[None]
        more |= {"position_ids": positions} if self._takes_positions else {}
        return self.model(input_ids=torch.tensor([tokens], device=self.device), use_cache=True, **more)

"""Replies to a chat with images after its prompt went through the model once: its cache continued by all of them together.

For models that run no rows of a tree (prefix language models, cross-attention, chunks). Whether a model's cache allows this is checked when
it is loaded, against whole passes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from iit_bench.models.devices import device_of
from iit_bench.models.huggingface.encoding import PER_TOKEN, InputMaker, Inputs
from iit_bench.models.scoring import PrefixScorer, pad_right


class CachedPrompt:
    """A `scoring.PrefixScorer` of one chat at a time.

    Args:
        model: of transformers.
        inputs: edits inputs of its chats.
        pad: the token that pads replies.
        whole: scores replies in one piece with their chat, where they and it are longer than a window of the model's layers.
    """

    def __init__(self, model: Any, inputs: InputMaker, pad: int, whole: PrefixScorer) -> None:
        self._model, self._inputs, self._pad, self._whole = model, inputs, pad, whole
        text = model.config.get_text_config()
        windows = (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
        self._window = min(filter(None, windows), default=None)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def prefill(self, prompts: Sequence[Inputs]) -> tuple[torch.Tensor, Any]:
        """As `scoring.PrefixScorer`; the state is the chat's inputs, its cache, and where positions in three dimensions go on."""
        keep = {"logits_to_keep": 1} if self._keeps else {}
        base: Any = getattr(self._model, "model", None)
        three = hasattr(base, "get_rope_index")  # positions of time, height and width
        if three:
            base.rope_deltas = None  # of an earlier chat with images, it would count for one without
        output = self._model(**prompts[0], use_cache=True, **keep)
        first = prompts[0]["input_ids"].shape[1] + (int(base.rope_deltas) if three and base.rope_deltas is not None else 0)
        return output.logits[:, -1], (prompts[0], output.past_key_values, first if three else None)

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """As `scoring.PrefixScorer`: one pass over all replies, each on a copy of the cache."""
        prompt, cache, first = state
        if self._window and prompt["input_ids"].shape[1] + max(map(len, tokens)) > self._window:
            return self._whole.extend(prompt, rows, tokens)
        branch = copy.deepcopy(cache)
        branch.batch_repeat_interleave(len(tokens))
        ids, real = pad_right(tokens, self._pad, device_of(self._model))
        before = torch.ones((len(tokens), prompt["input_ids"].shape[1]), device=ids.device, dtype=real.dtype)
        mask = torch.cat((before, real), dim=1)
        more = self._others(prompt, before.shape[1], ids.shape[1], len(tokens))
        if first is not None:
            more["position_ids"] = (first + torch.arange(ids.shape[1], device=ids.device)).expand(3, *ids.shape)
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask, past_key_values=branch, use_cache=True, **more).logits
        return logits

    def _others(self, prompt: Inputs, length: int, more: int, count: int) -> Inputs:
        """What else has an entry per token (masks of cross-attention), for the replies' tokens."""
        layout = {name: how for name, how in self._inputs.layout(prompt).items() if name not in PER_TOKEN}
        longer = self._inputs.append(prompt, [self._pad] * more) if layout else {}
        parts = {name: longer[name].narrow(how.axis, length, more) for name, how in layout.items()}
        return {name: part.expand(count, *part.shape[1:]) for name, part in parts.items()}


class LastPrompt:
    """A `scoring.PrefixScorer` before another one, which remembers the last chat that it has read: equal chats in a row are read once."""

    def __init__(self) -> None:
        self._scorer: PrefixScorer | None = None
        self._inputs: Inputs = {}
        self._read: tuple[torch.Tensor, Any] | None = None

    def of(self, scorer: PrefixScorer) -> LastPrompt:
        """Before this scorer; what another one has read is forgotten."""
        if scorer is not self._scorer:
            self._scorer, self._read = scorer, None
        return self

    def prefill(self, prompts: Sequence[Inputs]) -> tuple[torch.Tensor, Any]:
        """As `scoring.PrefixScorer`, of one chat."""
        assert self._scorer is not None
        (inputs,) = prompts
        if self._read is None or not _same(inputs, self._inputs):
            self._read = None  # its memory is free while the next one is read
            self._inputs, self._read = inputs, self._scorer.prefill(prompts)
        return self._read

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """As `scoring.PrefixScorer`."""
        assert self._scorer is not None
        return self._scorer.extend(state, rows, tokens)


def _same(one: Any, other: Any) -> bool:
    """Whether two inputs are equal: tensors, or numbers and texts, in mappings (outputs of towers are some), lists and tuples."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (isinstance(one, int | float | str) and type(one) is type(other) and one == other)

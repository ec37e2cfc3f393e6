"""How a causal language model may be asked for several rows at once: by what its configuration says, its cache, and a check at load.

Some models answer a row by its company: padding enters the state of recurrent models, "longrope" and "dynamic" choose rotary frequencies by
the longest row of a call, RoBERTa counts positions in its own way. And not every cache can be continued by several tokens, or be copied.
Such models are asked row by row, prompt and reply in one piece, exactly as if each row were all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from iit_bench.models.contract import Way
from iit_bench.models.huggingface.forked_cache import Forks

# Of replies: a prompt's cache is extended by each reply, rows of prompt and reply are padded to one length, or rows are read one by one.
Scoring = Literal["cache", "padded rows", "single rows"]
# Of new tokens: after several prompts at once, one at a time, one at a time without a cache, or not (`generate` makes other tokens).
Generating = Literal["together", "single", "without cache", "not"]
SWITCHING = ("longrope", "dynamic")  # rope types whose frequencies depend on the length of a call's longest row
# Of models that cannot be asked in some way at all: RWKV has no positions, MiniMax no keys.
FAILS = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)
PROBE = "The circle is red, the square is blue, and Paris is the capital of France."
# Largest difference of log-probabilities that rounding explains, in nats per token; wrong positions or states make more than one.
TOLERANCE = {torch.float32: 1e-3}
TOLERANCE_OF_HALF = 0.15
TOLERANCE_OF_FORKS = 1e-4  # in float32: some states drift when they are continued


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What was found out about a model.

    Attributes:
        way: whether requests are scored as rows of a tree, or each by itself.
        refused: ways that would be faster, and why they are not taken.
        scoring: how replies are scored where there is no tree.
        forks: how a copy of a prompt's cache is continued by each reply, in the place of `scoring`.
        generating: how replies are generated.
        border: tokens of a row up to which rotary frequencies are the same for all rows; None where they always are.
        why: reasons why rows without a tree are single, as fields of the configuration, classes of the cache's layers, or "check at load".
    """

    way: Way = "plain"
    refused: Mapping[str, str] = field(default_factory=dict)
    scoring: Scoring = "cache"
    forks: Forks = ""
    generating: Generating = "together"
    border: int | None = None
    why: tuple[str, ...] = ()

    def details(self) -> dict[str, Any]:
        """For `ModelInfo.details`: `rows`, without what is empty."""
        found: dict[str, Any] = {"way": self.way, "refused": dict(self.refused), "scoring": self.scoring, "generating": self.generating}
        found |= {"forks": self.forks, "rope_border": self.border, "why": list(self.why)}
        return {"rows": {name: value for name, value in found.items() if value}}


def rope_border(config: Any) -> int | None:
    """Tokens up to which all rows have the same rotary frequencies; None where they do not depend on a row's length."""
    rope = getattr(config, "rope_parameters", None) or {}
    borders = []
    for part in [rope, *(value for value in rope.values() if isinstance(value, Mapping))]:
        if part.get("rope_type") in SWITCHING:
            original = part.get("original_max_position_embeddings") if part["rope_type"] == "longrope" else None
            borders.append(int(original or config.max_position_embeddings))
    return min(borders, default=None)


def counts_columns(config: Any) -> tuple[str, ...]:
    """Fields of the configuration by which a token's place in the padded row counts, padding included (Llama 4)."""
    return tuple(name for name in ("attention_chunk_size", "attn_temperature_tuning") if getattr(config, name, None))


def column_border(config: Any) -> int | None:
    """Width of a padded row up to which none of `counts_columns` makes a difference; None where the configuration has none of them."""
    chunk = getattr(config, "attention_chunk_size", None)
    scale = config.floor_scale if getattr(config, "attn_temperature_tuning", None) else None
    return min((int(width) for width in (chunk, scale) if width), default=None)


def kinds_of_cache(cache: Any) -> tuple[str, ...]:
    """Names of the classes of a cache's layers, sorted; of the cache itself where it has none of transformers' common layers."""
    if not isinstance(cache, DynamicCache):
        return ("no cache" if cache is None else type(cache).__name__,)
    empty = " without keys"  # MiniMax keeps the states of its linear layers elsewhere
    return tuple(sorted({type(layer).__name__ + ("" if getattr(layer, "keys", None) is not None else empty) for layer in cache.layers}))


def scoring_by_cache(kinds: Sequence[str]) -> Scoring:
    """The fastest way that a cache of such layers allows: recurrent states take padding in, windows forget what a branch needs."""
    if set(kinds) == {DynamicLayer.__name__}:
        return "cache"
    return "padded rows" if set(kinds) <= {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__} else "single rows"


def tolerance(dtype: torch.dtype) -> float:
    """Of log-probabilities in the check at load, nats per token."""
    return TOLERANCE.get(dtype, TOLERANCE_OF_HALF)


def probe_tokens(tokenizer: Any, rows: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Three prompts of unequal length and two replies to each, with ids that an embedding of `rows` rows has."""
    ids = [token for token in tokenizer.encode(PROBE, add_special_tokens=False) if token < rows] or [0]
    ids = (ids * 24)[:24]
    prompts = [ids[:11], ids[3:8], ids[1:3]]
    return prompts, [[ids[12:16], ids[16:17]], [ids[2:3], ids[17:20]], [ids[9:11], ids[5:9]]]


def nested_probe(tokenizer: Any, rows: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """The prompts and replies of `probe_tokens`, then later turns after two replies to the first prompt, and one after a later turn."""
    prompts, replies = probe_tokens(tokenizer, rows)
    ids, (first, other) = prompts[0] + replies[0][0], replies[0]
    later = [prompts[0] + first, prompts[0] + first + ids[4:9], prompts[0] + other + ids[2:8]]
    later.append(later[1] + other + ids[3:7])
    return [*prompts, *later], [*replies, replies[1], replies[2], replies[1], [first, first[:1], other]]


def agree(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], counts: Sequence[Sequence[int]], within: float) -> bool:
    """Whether sums of log-probabilities differ by at most `within` nats per token."""
    pairs = [(a, b, n) for first, second, own in zip(one, other, counts, strict=True) for a, b, n in zip(first, second, own, strict=True)]
    return all(abs(a - b) <= within * n for a, b, n in pairs)


def first_that_agrees(ways: Sequence[str], is_right: Callable[[str], bool]) -> str:
    """The first of `ways`, fastest first, whose results are right; the last one is not tried."""
    for way in ways[:-1]:
        try:
            if is_right(way):
                return way
        except FAILS:
            continue
    return ways[-1]

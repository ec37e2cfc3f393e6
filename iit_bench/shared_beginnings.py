"""Which prompts of a batch begin alike, and where to cut them so that each beginning is read once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iit_bench.token_trees import PASS_OVERHEAD, common_length

CANDIDATES = 24  # lengths of the rest that are compared
LEAST_SAVED = 0.1  # of the positions of a plain pass


@dataclass(frozen=True)
class Cuts:
    """Prompts cut in two: a beginning, which other prompts may have as well, and a rest of one token or more.

    Attributes:
        beginnings: per distinct beginning, the index of a prompt that has it and its length, 1 or more.
        rows: per prompt, the index of its beginning.
        positions: that are read, padding included: all beginnings padded to one length, and all rests.
    """

    beginnings: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]
    positions: int

    def length(self, prompt: int) -> int:
        """Of the prompt's beginning."""
        return self.beginnings[self.rows[prompt]][1]

    def whole(self, lengths: Sequence[int]) -> int:
        """Columns of a row: of the longest beginning and the longest rest of prompts of these lengths."""
        rest = max(length - self.length(i) for i, length in enumerate(lengths))
        return rest + max(length for _, length in self.beginnings)


def cut_beginnings(prompts: Sequence[Sequence[int]], earliest: Sequence[int] | None = None) -> Cuts | None:
    """The cuts that read the fewest positions; None if no two prompts share a beginning.

    Args:
        prompts: symbols of each, equal where the model reads the same.
        earliest: of each, the first place where it may be cut; 1 where not given.
    """
    rows = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda i: (prompts[i], i))
    lengths = [len(rows[i]) for i in order]
    first = [max(1, earliest[i] if earliest else 1) for i in order]
    shared = [common_length(rows[a], rows[b]) for a, b in itertools.pairwise(order)]
    found: Cuts | None = None
    for rest in _rests(lengths, shared):
        cuts = _cut(order, lengths, first, shared, rest)
        if cuts and len(cuts.beginnings) < len(rows) and (found is None or cuts.positions < found.positions):
            found = cuts
    return found


def worth_cutting(cuts: Cuts | None, lengths: Sequence[int]) -> bool:
    """Whether one pass more over the beginnings costs clearly less than padded prompts of these lengths."""
    plain = len(lengths) * max(lengths)
    return cuts is not None and cuts.positions + PASS_OVERHEAD <= (1 - LEAST_SAVED) * plain


def _rests(lengths: Sequence[int], shared: Sequence[int]) -> list[int]:
    """Lengths of the longest rest to compare: those that neighbours leave behind what they share."""
    pairs = zip(lengths, lengths[1:], shared, strict=False)
    values = sorted({max(1, length - common) for one, other, common in pairs for length in (one, other, max(lengths))})
    step = max(1, len(values) / CANDIDATES)
    return [values[int(i * step)] for i in range(min(len(values), CANDIDATES))] + values[-1:]


def _cut(order: Sequence[int], lengths: Sequence[int], first: Sequence[int], shared: Sequence[int], rest: int) -> Cuts | None:
    """Cuts that leave at most `rest` behind; prompts are in an order in which neighbours share most."""
    beginnings: list[tuple[int, int]] = []
    of_prompt: dict[int, int] = {}
    limit = 0  # up to which all prompts of the last beginning agree
    for place, prompt in enumerate(order):
        own = max(first[place], lengths[place] - rest)
        if own >= lengths[place]:
            return None  # no token would be left
        common = min(limit, shared[place - 1], lengths[place] - 1) if place else 0
        at = max(own, beginnings[-1][1]) if beginnings else own
        if place and at <= common:
            limit, beginnings[-1] = common, (beginnings[-1][0], at)
        else:
            limit = lengths[place] - 1
            beginnings.append((prompt, own))
        of_prompt[prompt] = len(beginnings) - 1
    width = max(length for _, length in beginnings)
    left = max(lengths[place] - beginnings[of_prompt[prompt]][1] for place, prompt in enumerate(order))
    rows = tuple(of_prompt[i] for i in range(len(order)))
    return Cuts(tuple(beginnings), rows, len(beginnings) * width + len(order) * left)

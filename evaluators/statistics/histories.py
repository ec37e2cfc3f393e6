"""History clusters of items as arrays, and sums over the pairs of items that share one, in time linear in the items.

Let H_i be the history clusters of item i. Whether two items share one is, by inclusion and exclusion, the sum over the subsets S that both
have, none empty, of (-1)^(|S|+1). So the sum of u_i · u_j over the pairs that share a history cluster is the sum over all subsets S of
(-1)^(|S|+1) · (sum of u_i over the items with S ⊆ H_i)²: an item enters 2^|H_i| - 1 sums, instead of as many products as it has
partners. Where items have so many history clusters that the pairs are fewer, the pairs are taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 2_000_000  # pairs of items at once, so that memory stays at tens of MB
_MOST_SUBSETS = 2e7  # of all items; more would take more than about 1 GB


def codes(labels: Iterable[Hashable]) -> Ints:
    """Integer codes 0, 1, … of `labels` in order of first appearance, shape [n]."""
    if isinstance(labels, np.ndarray):
        if len(labels) and labels.dtype.kind == "i" and labels.min() >= 0 and labels.max() < 4 * len(labels):
            return _codes_of_few(labels)
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return np.asarray(rank[inverse], dtype=np.int64)
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.int64)


def _codes_of_few(labels: Ints) -> Ints:
    """`codes` of numbers from 0 on that are hardly more than there are labels, without sorting these."""
    first = np.full(int(labels.max()) + 1, len(labels))
    first[labels[::-1]] = np.arange(len(labels))[::-1]  # of a label that occurs again, the last assignment stays
    there = np.flatnonzero(first < len(labels))
    rank = np.empty(len(first), dtype=np.int64)
    rank[there[np.argsort(first[there])]] = np.arange(len(there))
    return np.asarray(rank[labels], dtype=np.int64)


def ranks(values: Ints) -> Ints:
    """For each value the number of lower distinct ones, [n]. Sorted only where the values are far apart or negative."""
    if not len(values) or int(values.min()) < 0 or int(values.max()) >= 4 * len(values):
        return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64)
    there = np.zeros(int(values.max()) + 1, dtype=np.int64)
    there[values] = 1
    return np.asarray((np.cumsum(there) - 1)[values], dtype=np.int64)


def distinct(values: Ints) -> Ints:
    """The distinct values in rising order: `np.unique` finds them by hashing, which takes ten times as long for a million."""
    ordered = np.sort(values)
    return ordered[np.concatenate([np.ones(min(1, len(ordered)), dtype=np.bool_), ordered[1:] != ordered[:-1]])]


def joined(a: Ints, b: Ints) -> Ints:
    """Codes 0, 1, … of the pairs (a_i, b_i), in no particular order, shape [n]; codes are not negative."""
    if not len(a):
        return a
    return ranks(a * (int(b.max()) + 1) + b)


@dataclass(frozen=True, eq=False)
class HistoryCodes:
    """The history clusters of n items as codes: those of item i are `code[start[i] : start[i + 1]]`."""

    start: Ints  # [n + 1]
    code: Ints  # [m]

    @classmethod
    def of(cls, histories: Iterable[Iterable[Hashable]]) -> HistoryCodes:
        """From the labels of each item's history clusters."""
        lists = [tuple(one) for one in histories]
        return cls.of_sizes(np.array([len(one) for one in lists], dtype=np.int64), codes(label for one in lists for label in one))

    @classmethod
    def of_sizes(cls, sizes: Ints, code: Ints) -> HistoryCodes:
        """From the number of codes per item, [n], and the codes, item by item."""
        return cls(_starts(sizes), code)

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def sizes(self) -> Ints:
        """Codes per item, [n]."""
        return np.diff(self.start)

    @property
    def item(self) -> Ints:
        """The item of each code, [m]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, rows: Ints) -> HistoryCodes:
        """Of the items `rows`, in their order."""
        sizes = self.sizes[rows]
        start = _starts(sizes)
        return HistoryCodes(start, self.code[np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], sizes)])

    def recoded(self, code: Ints) -> HistoryCodes:
        """With code `code[i]` for i."""
        return HistoryCodes(self.start, code[self.code]) if len(self.code) else self

    def with_those_of(self, other: HistoryCodes) -> HistoryCodes:
        """Of the same items in two runs, with codes of one meaning: what either has."""
        item = np.concatenate([self.item, other.item])
        order = np.argsort(item, kind="stable")
        return HistoryCodes(self.start + other.start, np.concatenate([self.code, other.code])[order])

    @cached_property
    def sets(self) -> HistoryCodes:
        """With each code once per item, in rising order."""
        if not len(self.code):
            return self
        size = int(self.code.max()) + 1
        keys = distinct(self.item * size + self.code)
        return HistoryCodes(_starts(np.bincount(keys // size, minlength=len(self))), keys % size)


def _starts(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


@dataclass(frozen=True, eq=False)
class SharedHistories:
    """n items whose history clusters serve several target clusters."""

    sets: HistoryCodes  # as `HistoryCodes.sets` gives them
    cluster: Ints  # code of the target cluster per item, [n]

    @classmethod
    def of(cls, histories: HistoryCodes, cluster: Ints) -> SharedHistories | None:
        """None where every history cluster serves items of one target cluster only.

        Raises:
            ValueError: as many histories as items are needed.
        """
        if len(histories) != len(cluster):
            raise ValueError(f"{len(histories)} histories for {len(cluster)} items")
        sets = histories.sets
        if not len(sets.code):
            return None
        size = int(cluster.max()) + 1
        served = distinct(sets.code * size + cluster[sets.item]) // size
        return cls(sets, cluster) if bool(np.any(served[1:] == served[:-1])) else None

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Clusters by history, and by target and history; an item without a history is one of each."""
        bare = int(np.sum(self.sets.sizes == 0))
        whole = np.zeros(len(self.sets), dtype=np.int64)
        for place in range(int(self.sets.sizes.max())):
            longer = np.flatnonzero(self.sets.sizes > place)
            whole[longer] = 1 + int(whole.max()) + joined(whole[longer], self.sets.code[self.sets.start[longer] + place])
        return int(np.count_nonzero(np.bincount(self.sets.code))) + bare, int(joined(self.cluster, whole).max()) + 1

    def sums(self, influence: Floats) -> tuple[float, float]:
        """Sums of u_i · u_j over the pairs of items that share a history cluster, and that share a target cluster as well.

        An item shares with itself, one without a history only so.
        """
        alone = float(np.sum(influence[self.sets.sizes == 0] ** 2))
        by_history = by_both = alone
        if not self._few_subsets:
            for rows, columns in self._pairs():
                products = influence[rows] * influence[columns]
                by_history += float(products.sum())
                by_both += float(products[self.cluster[rows] == self.cluster[columns]].sum())
            return by_history, by_both
        for sign, item, part, subset in self._subsets:
            of_part = np.bincount(part, influence[item])
            by_both += sign * float(np.sum(of_part**2))
            by_history += sign * float(np.sum(np.bincount(subset, of_part) ** 2))
        return by_history, by_both

    @cached_property
    def _few_subsets(self) -> bool:
        """Whether the items have fewer subsets of history clusters than partners."""
        served = np.bincount(self.sets.code)
        return float(np.sum(2.0**self.sets.sizes)) <= max(1e6, min(_MOST_SUBSETS, float(np.sum(served.astype(np.float64) ** 2))))

    @cached_property
    def _subsets(self) -> list[tuple[int, Ints, Ints, Ints]]:
        """By size of the subset: its sign; per item that has a subset, the item and the code of (subset, target cluster); per such code the
        code of the subset."""
        levels = []
        ends = self.sets.start[1:]
        item, place = self.sets.item, np.arange(len(self.sets.code))
        subset = codes(self.sets.code)
        sign = 1
        while len(item):
            _, first, part = np.unique(subset * (int(self.cluster.max()) + 1) + self.cluster[item], return_index=True, return_inverse=True)
            levels.append((sign, item.astype(np.int32), part.astype(np.int32), subset[first].astype(np.int32)))
            # Each subset once more with every later cluster of its item: codes rise within an item, so that each set comes up once.
            more = ends[item] - place - 1
            step = np.arange(int(more.sum())) - np.repeat(_starts(more)[:-1], more)
            item, place, subset = np.repeat(item, more), np.repeat(place, more) + 1 + step, np.repeat(subset, more)
            subset = joined(subset, self.sets.code[place])
            sign = -sign
        return levels  # type: ignore[return-value]

    def _pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Ordered pairs of items that share a history cluster, each once, and every item that has one with itself, in blocks."""
        shape = (len(self.sets), int(self.sets.code.max()) + 1)
        members = csr_array((np.ones(len(self.sets.code), dtype=np.int32), self.sets.code, self.sets.start), shape=shape)
        served = np.asarray(members.sum(axis=0)).ravel()
        cost = np.cumsum(members @ served)  # at most so many pairs up to an item
        first = 0
        while first < members.shape[0]:
            done = cost[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(cost, done + _BLOCK, side="right")))
            shared = (members[first:last] @ members.T).tocoo()
            yield shared.row.astype(np.int64) + first, shared.col.astype(np.int64)
            first = last

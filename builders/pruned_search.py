"""The nearest rows of a sparse matrix by cosine, exactly, without looking at most of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = (4000, 16_000)  # products that a search without frequent words takes at least; the last search leaves out no word
SHORT = 64  # texts of a ranking up to which frequent words may be left out; a longer one reaches texts that share only those
TOGETHER = 1 << 17  # products whose results are in memory at once
# Ranks of words by frequency; a search leaves out the words before one. They are dense where the frequencies are far apart.
BORDERS = np.array([0, 1, *(n << power for power in range(8) for n in (2, 3)), 512, 1024, 2048, 4096])
LIKELY = 4  # times the texts of a ranking: those compared in full to know how near the nearest are at least
COMPARED = 256  # texts that are compared with a query in full, beside the likeliest; where more may be near, more words are searched
ROUNDING = 2.0**-22  # times the number of words + 8: relative, above the error of a float32 sum of products of so many positive numbers


@dataclass(frozen=True)
class Ranking:
    """The nearest texts of a text, from nearest to farthest; equal similarities by position, and never cut apart."""

    texts: NDArray[np.int64]  # positions
    similarities: NDArray[np.float64]
    complete: bool  # every text that is not listed has the similarity 0


class PrunedSearch:
    """The nearest rows of a sparse matrix by cosine.

    By the inequality of Cauchy and Schwarz, words that hold the share q of a query's norm and t of a text's add at most q·t to their
    similarity. So a search leaves out the most frequent words of a query, and compares in full only the texts that these may raise among
    the nearest. Where those are many, it is repeated with more words. Searches take float32; comparisons in full are exact.

    Args:
        weights: float64 [texts, words], exact integers, columns by descending frequency and sorted in each row.
        norms: float64 [texts].
        among: the positions that may be found, ascending.
    """

    def __init__(self, weights: Any, norms: NDArray[np.float64], among: NDArray[np.int64]) -> None:
        self._weights, self._norms, self._among = weights, norms, among
        self._row_norms = norms[among]
        rows = weights[among]
        self._shares = np.empty((len(BORDERS), len(among)), np.float32)  # of a norm, the share of the words before a border
        for start in range(0, len(among), 4096):
            part = slice(start, start + 4096)
            squares = _before_borders(rows[part], rows[part].data ** 2)
            self._shares[:, part] = (np.sqrt(squares) / self._row_norms[part, None]).T
        self._highest_share = self._shares.max(axis=1, initial=0)
        self._columns = _unit(rows, self._row_norms).T.tocsr()  # float32 [words, among]
        self._frequency = np.diff(self._columns.indptr).astype(np.float64)
        self._number = np.zeros(weights.shape[1], np.int32)  # of a column among those of some queries; 0 between uses
        self._seen = np.zeros(len(among), np.bool_)  # False between uses

    def nearest(self, queries: NDArray[np.int64], count: int) -> list[Ranking]:
        """The ranking of each query."""
        found: dict[int, Ranking] = {}
        for step in (*STEPS, np.inf) if count <= SHORT else (np.inf,):
            asked = np.array([query for query in queries.tolist() if query not in found], np.int64)
            products = self._products(asked)  # [queries, borders]
            borders = np.maximum(np.count_nonzero(products >= step, axis=1) - 1, 0)
            for part in _parts(products[np.arange(len(asked)), borders]):
                found |= self._level(asked[part], borders[part], count)
        return [found[query] for query in queries.tolist()]

    def _products(self, queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many products a search takes that leaves out the words before each border: float64 [queries, borders]."""
        rows = self._weights[queries]
        frequency = self._frequency[rows.indices]
        row = np.repeat(np.arange(len(queries)), np.diff(rows.indptr))
        return np.bincount(row, frequency, len(queries))[:, None] - _before_borders(rows, frequency)

    def _level(self, queries: NDArray[np.int64], borders: NDArray[np.int64], count: int) -> dict[int, Ranking]:
        """The rankings that can be decided when the words before a border are left out of each query; all where it is the first."""
        rows = self._weights[queries]
        squares = _before_borders(rows, rows.data * rows.data)[np.arange(len(queries)), borders]
        left_out = np.sqrt(squares) / self._norms[queries]  # share of the norm
        above = 1 + ROUNDING * (np.diff(rows.indptr) + 8)
        dots = _from_borders(_unit(rows, self._norms[queries]), borders) @ self._columns
        each = [slice(*ends) for ends in pairwise(dots.indptr.tolist())]
        least = self._reached(queries, [(dots.indices[own], dots.data[own]) for own in each], count)
        candidates: dict[int, NDArray[Any]] = {}
        bounds = zip(borders.tolist(), (left_out * above).tolist(), least.tolist(), strict=True)
        for i, (own, bound, factor) in enumerate(zip(each, bounds, above.tolist(), strict=True)):
            if left_out[i] and not least[i]:
                continue
            chosen = self._candidates(dots.indices[own], dots.data[own] * factor, *bound)
            if not left_out[i] or len(chosen) <= count + COMPARED:
                candidates[i] = chosen
        found: dict[int, Ranking] = {}
        for i, similarities in self._compared(queries, candidates).items():
            complete = not left_out[i] and each[i].stop - each[i].start <= count
            found[int(queries[i])] = self._ranking(candidates[i], similarities, count, complete)
        return found

    def _compared(self, queries: NDArray[np.int64], places: Mapping[int, NDArray[Any]]) -> dict[int, NDArray[np.float64]]:
        """The similarities, over all words, of some of the queries (by number) to places."""
        if not places:
            return {}
        lengths = [len(own) for own in places.values()]
        exact = self._exact(queries, np.repeat(list(places), lengths), np.concatenate(list(places.values())))
        return dict(zip(places, np.split(exact, np.cumsum(lengths)[:-1]), strict=True))

    def _reached(self, queries: NDArray[np.int64], seen: Sequence[tuple[NDArray[Any], NDArray[Any]]], count: int) -> NDArray[np.float64]:
        """A similarity that at least `count` texts have, for each query; 0 if fewer texts are seen: float64 [queries].

        Args:
            seen: places, and about what their similarity is over the words that were searched.
        """
        likely: dict[int, NDArray[Any]] = {}
        for i, (places, similarities) in enumerate(seen):
            if len(places) >= count:
                tried = min(len(places), LIKELY * count)
                likely[i] = places[np.argpartition(similarities, -tried)[-tried:]]
        least = np.zeros(len(queries))
        for i, similarities in self._compared(queries, likely).items():
            least[i] = np.partition(similarities, -count)[-count]
        return least

    def _candidates(
        self, seen: NDArray[Any], similarities: NDArray[np.float32], border: int, left_out: float, least: float
    ) -> NDArray[Any]:
        """The places of all texts whose similarity may be `least` or more.

        Args:
            seen: the places of all texts that have a searched word in common with the query.
            similarities: bounds from above, over the words that were searched.
            border, left_out: which words were not, and a bound from above of the share of the query's norm that they have.
        """
        shares = self._shares[border]
        reaching = np.flatnonzero(similarities >= least - left_out * self._highest_share[border])
        places = seen[reaching]
        if left_out:
            places = places[similarities[reaching] + left_out * shares[places] >= least]
            if left_out * self._highest_share[border] >= least:
                self._seen[seen] = True
                unseen = np.flatnonzero((left_out * shares >= least) & ~self._seen)
                self._seen[seen] = False
                places = np.concatenate((places, unseen))
        return places

    def _ranking(self, places: NDArray[Any], similarities: NDArray[np.float64], count: int, complete: bool) -> Ranking:
        if len(places) > count:
            enough = similarities >= np.partition(similarities, -count)[-count]
            places, similarities = places[enough], similarities[enough]
        order = np.lexsort((places, -similarities))
        return Ranking(self._among[places[order]], similarities[order], complete)

    def _exact(self, queries: NDArray[np.int64], number: NDArray[np.int64], places: NDArray[Any]) -> NDArray[np.float64]:
        """Similarities over all words of pairs of a query (its number among `queries`) and a place, which has words."""
        rows = self._weights[queries]
        own = np.unique(rows.indices)
        self._number[own] = np.arange(1, len(own) + 1)
        entries_of = np.zeros((len(queries), len(own) + 1))
        entries_of[np.repeat(np.arange(len(queries)), np.diff(rows.indptr)), self._number[rows.indices]] = rows.data
        texts = self._among[places]
        starts, lengths = self._weights.indptr[texts], self._weights.indptr[texts + 1] - self._weights.indptr[texts]
        entries = _ranges(starts, lengths)
        there = entries_of[np.repeat(number, lengths), self._number[self._weights.indices[entries]]]
        self._number[own] = 0
        if not len(entries):
            return np.zeros(len(places))
        dots = np.add.reduceat(self._weights.data[entries] * there, np.cumsum(lengths) - lengths)
        similarities: NDArray[np.float64] = dots / (self._row_norms[places] * self._norms[queries[number]])
        return similarities


def _parts(products: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """The numbers of queries in parts of about TOGETHER products."""
    part = np.cumsum(products) // TOGETHER
    return (np.flatnonzero(part == one) for one in np.unique(part))


def _unit(rows: Any, norms: NDArray[np.float64]) -> Any:
    """The rows with the norm 1: float32."""
    from scipy.sparse import csr_array

    entries = (rows.data / np.repeat(norms, np.diff(rows.indptr))).astype(np.float32)
    return csr_array((entries, rows.indices, rows.indptr), shape=rows.shape)


def _before_borders(rows: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the values of each row's entries before each of BORDERS: float64 [rows, borders], exact for integers."""
    last = np.searchsorted(BORDERS, rows.indices, side="right") - 1  # the last border before a word
    numbers = last + len(BORDERS) * np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    sums = np.bincount(numbers, values, rows.shape[0] * len(BORDERS)).reshape(-1, len(BORDERS))
    before: NDArray[np.float64] = sums.cumsum(axis=1) - sums
    return before


def _from_borders(rows: Any, borders: NDArray[np.int64]) -> Any:
    """The rows without the words before a border each."""
    from scipy.sparse import csr_array

    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    stays = rows.indices >= BORDERS[borders][row]
    starts = np.append(0, np.cumsum(np.bincount(row, stays, rows.shape[0]))).astype(rows.indptr.dtype)
    return csr_array((rows.data[stays], rows.indices[stays], starts), shape=rows.shape)


def _ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The numbers start … start + length - 1 of each range, one range after the other."""
    before = np.cumsum(lengths) - lengths
    ranges: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return ranges

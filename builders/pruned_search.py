"""The nearest rows of a sparse matrix by cosine, exactly, without looking at most of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT = 64  # texts of a ranking up to which frequent words may be left out; a longer one reaches texts that share only those
OFTEN = 64  # a word in one of so many texts is frequent
# Ranks of words by frequency; a search leaves out the words before one. They are dense where the frequencies are far apart.
BORDERS = np.array([0, 1, *(n << power for power in range(8) for n in (2, 3)), 512, 1024, 2048, 4096])
TIERS = 12  # of texts by the share of frequent words,
GROWTH = 1.5  # each so many times as large as all before it
RARE = 1000  # products with words that are not left out, at least, in the first search
COMMON = 18  # products with the others, at most, in the first search, times the square root of the number of texts
TOGETHER = 1 << 20  # products whose results are in memory at once
LIKELY = 2  # times the texts of a ranking: about so many are compared in full to know how near the nearest are at least
COMPARED = 2000  # texts that are compared with a query in full, beside the likeliest; where more may be near, all words are searched
ROUNDING = 2.0**-22  # times the number of words + 8: relative, above the error of a float32 sum of products of so many positive numbers


@dataclass(frozen=True)
class Ranking:
    """The nearest texts of a text, from nearest to farthest; equal similarities by position, and never cut apart."""

    texts: NDArray[np.int64]  # positions
    similarities: NDArray[np.float64]
    complete: bool  # every text that is not listed has the similarity 0


@dataclass(frozen=True)
class _Cuts:
    """What is left out of the search of some queries: the words before a border, in the tiers from one on. Arrays [queries]."""

    borders: NDArray[np.int64]  # numbers of borders
    tiers: NDArray[np.int64]
    products: NDArray[np.float64]  # that the search takes

    def __getitem__(self, queries: NDArray[np.int64]) -> _Cuts:
        return _Cuts(self.borders[queries], self.tiers[queries], self.products[queries])


class PrunedSearch:
    """The nearest rows of a sparse matrix by cosine.

    By the inequality of Cauchy and Schwarz, words that hold the share q of a query's norm and t of a text's add at most q·t to their
    similarity. So a search leaves out the most frequent words of a query, but not in the texts whose own share t of such words is high:
    texts are in tiers by that share, and the frequent words of a query are searched in the first tiers. It compares the likeliest of the
    texts found in full, and then all those that what was left out may raise above the nearest of these. A first search takes few products;
    where it leaves out too much, the second one leaves out what the similarity reached by then allows. Searches take float32; comparisons
    in full are exact.

    Args:
        weights: float64 [texts, words], exact integers, columns by descending frequency and sorted in each row.
        norms: float64 [texts].
        among: the positions that may be found, ascending.
    """

    def __init__(self, weights: Any, norms: NDArray[np.float64], among: NDArray[np.int64]) -> None:
        self._weights, self._norms, self._among = weights, norms, among
        rows, self._row_norms = weights[among], norms[among]
        self._frequency = np.bincount(rows.indices, minlength=weights.shape[1]).astype(np.float64)
        often = np.count_nonzero(self._frequency * OFTEN >= max(1, len(among)))
        self._borders = BORDERS[often >= BORDERS]
        self._frequent = int(self._borders[-1])  # the number of words that may be left out
        self._shares = np.empty((len(self._borders), len(among)), np.float32)  # of a norm, the share of the words before a border
        for start in range(0, len(among), 4096):
            part = slice(start, start + 4096)
            squares = _before_borders(rows[part], rows[part].data ** 2, self._borders)
            self._shares[:, part] = (np.sqrt(squares) / self._row_norms[part, None]).T
        self._tier, self._highest = _tiers(self._shares)
        self._columns, self._in_tiers = self._tiered(_unit(rows, self._row_norms).T.tocsr())
        self._number = np.zeros(weights.shape[1], np.int32)  # of a column among those of some queries; 0 between uses
        self._wanted = np.ones(len(among), np.bool_)

    def _tiered(self, columns: Any) -> tuple[Any, NDArray[np.float64]]:
        """The unit rows of a matrix [words, among] in tiers, and how often the words are in the tiers up to each.

        Returns:
            float32 [tiers × frequent words + other words, among], and float64 [tiers, frequent words + 1], 0 in the last column.
        """
        from scipy.sparse import csr_array, vstack

        tiers, end = self._highest.shape[1] - 1, columns.indptr[self._frequent]
        texts = columns.indices[:end]
        word = np.repeat(np.arange(self._frequent, dtype=np.int32), np.diff(columns.indptr[: self._frequent + 1]))
        row = word + np.int32(self._frequent) * self._tier[texts]
        often = csr_array((columns.data[:end], (row, texts)), shape=(tiers * self._frequent, columns.shape[1]))
        counts = np.diff(often.indptr).reshape(tiers, self._frequent).cumsum(axis=0)
        return vstack((often, columns[self._frequent :]), format="csr"), np.pad(counts, ((0, 0), (0, 1))).astype(np.float64)

    def leave_out(self, texts: NDArray[np.int64]) -> None:
        """Find these of the texts no more."""
        self._wanted[np.searchsorted(self._among, texts)] = False

    def nearest(self, queries: NDArray[np.int64], count: int) -> list[Ranking]:
        """The ranking of each query."""
        found: dict[int, Ranking] = {}
        least = np.zeros(len(queries))
        for choose in (self._by_products, self._by_least, self._all_words) if count <= SHORT else (self._all_words,):
            asked = np.flatnonzero([query not in found for query in queries.tolist()])
            cuts = choose(queries[asked], least[asked])
            for part in _parts(cuts.products):
                own = asked[part]
                more, least[own] = self._level(queries[own], cuts[part], least[own], count)
                found |= more
        return [found[query] for query in queries.tolist()]

    def _by_products(self, queries: NDArray[np.int64], least: NDArray[np.float64]) -> _Cuts:
        """The last border with enough products beyond it, and as many tiers of the words before it as few products allow."""
        products, each = self._products(queries), np.arange(len(queries))
        borders = np.maximum(np.count_nonzero(products[:, :, 0] >= RARE, axis=1) - 1, 0)
        own = products[each, borders]
        tiers = np.count_nonzero(own - own[:, :1] <= COMMON * np.sqrt(len(self._among)), axis=1) - 1
        return _Cuts(borders, tiers, own[each, tiers])

    def _by_least(self, queries: NDArray[np.int64], least: NDArray[np.float64]) -> _Cuts:
        """The fewest products that find all texts with this similarity."""
        rows, each = self._weights[queries], np.arange(len(queries))
        shares = np.sqrt(_before_borders(rows, rows.data**2, self._borders)) / self._norms[queries, None] * _above(rows)[:, None]
        tiers = np.count_nonzero(shares[:, :, None] * self._highest[:, :-1] >= least[:, None, None], axis=2)
        products = np.take_along_axis(self._products(queries), tiers[:, :, None], axis=2)[:, :, 0]
        borders = np.argmin(products, axis=1)
        return _Cuts(borders, tiers[each, borders], products[each, borders])

    def _all_words(self, queries: NDArray[np.int64], least: NDArray[np.float64]) -> _Cuts:
        """Nothing is left out."""
        nothing = np.zeros(len(queries), np.int64)
        return _Cuts(nothing, nothing, self._products(queries)[:, 0, 0])

    def _products(self, queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many products a search takes if words before a border are searched before a tier: float64 [queries, borders, tiers + 1]."""
        rows = self._weights[queries]
        row = np.repeat(np.arange(len(queries)), np.diff(rows.indptr))
        frequency = self._frequency[rows.indices]
        beyond = np.bincount(row, frequency, len(queries))[:, None] - _before_borders(rows, frequency, self._borders)
        often = np.minimum(rows.indices, self._frequent)
        before = [_before_borders(rows, counts[often], self._borders) for counts in self._in_tiers]
        return np.stack([beyond, *(beyond + one for one in before)], axis=2)

    def _level(
        self, queries: NDArray[np.int64], cuts: _Cuts, least: NDArray[np.float64], count: int
    ) -> tuple[dict[int, Ranking], NDArray[np.float64]]:
        """The rankings that can be decided by a search; all where nothing is left out.

        Args:
            least: a similarity that at least `count` texts have, for each query, or 0; the second result is what is known afterwards.
        """
        rows, above = self._weights[queries], _above(self._weights[queries])
        squares = _before_borders(rows, rows.data * rows.data, self._borders)[np.arange(len(queries)), cuts.borders]
        left_out = np.sqrt(squares) / self._norms[queries] * above  # share of the norm, at most
        unseen = left_out * self._highest[cuts.borders, cuts.tiers]  # what is left out adds at most so much to a similarity
        dots = self._in_tiered_columns(_unit(rows, self._norms[queries]), cuts) @ self._columns
        each = [slice(*ends) for ends in pairwise(dots.indptr.tolist())]
        least = np.maximum(least, self._reached(rows, queries, [(dots.indices[own], dots.data[own]) for own in each], count))
        candidates: dict[int, NDArray[Any]] = {}
        bounds = (cuts.borders, cuts.tiers, left_out, unseen, least, above)
        for i, (border, tier, out, added, reached, factor) in enumerate(zip(*(bound.tolist() for bound in bounds), strict=True)):
            if added and added >= reached:
                continue  # a text without any word that was searched may be as near
            near = np.flatnonzero(dots.data[each[i]] >= (reached - added) / factor)
            places = dots.indices[each[i]][near]
            if added:
                raised = out * self._shares[border][places] * (self._tier[places] >= tier)
                places = places[dots.data[each[i]][near] * factor + raised >= reached]
            chosen = places[self._wanted[places]]
            if not added or len(chosen) <= count + COMPARED:
                candidates[i] = chosen
        found: dict[int, Ranking] = {}
        for i, similarities in self._compared(rows, queries, candidates).items():
            complete = not unseen[i] and each[i].stop - each[i].start <= count
            found[int(queries[i])] = self._ranking(candidates[i], similarities, count, complete)
        return found, least

    def _in_tiered_columns(self, rows: Any, cuts: _Cuts) -> Any:
        """Rows over words as rows over those of the tiered matrix that are searched."""
        from scipy.sparse import csr_array

        row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        tiers = self._highest.shape[1] - 1
        often = rows.indices < self._frequent
        before = rows.indices < self._borders[cuts.borders][row]
        times = np.where(often, np.where(before, cuts.tiers[row], tiers), 1)
        first = np.where(often, rows.indices, rows.indices + (tiers - 1) * self._frequent)
        numbers = np.repeat(first, times) + self._frequent * _ranges(np.zeros(len(times), np.int64), times)
        starts = np.append(0, np.cumsum(times))[rows.indptr]
        entries = (np.repeat(rows.data, times), numbers.astype(np.int32), starts.astype(np.int32))
        return csr_array(entries, shape=(rows.shape[0], self._columns.shape[0]))

    def _compared(self, rows: Any, queries: NDArray[np.int64], places: Mapping[int, NDArray[Any]]) -> dict[int, NDArray[np.float64]]:
        """The similarities, over all words, of some of the queries (by number) to places."""
        if not places:
            return {}
        lengths = [len(own) for own in places.values()]
        exact = self._exact(rows, self._norms[queries], np.repeat(list(places), lengths), np.concatenate(list(places.values())))
        return dict(zip(places, np.split(exact, np.cumsum(lengths)[:-1]), strict=True))

    def _reached(
        self, rows: Any, queries: NDArray[np.int64], seen: Sequence[tuple[NDArray[Any], NDArray[Any]]], count: int
    ) -> NDArray[np.float64]:
        """A similarity that at least `count` texts have, for each query; 0 if none is known: float64 [queries].

        Args:
            rows: of the queries.
            seen: places, and about what their similarity is over the words that were searched.
        """
        likely: dict[int, NDArray[Any]] = {}
        for i, (places, similarities) in enumerate(seen):
            tried = places[_about_highest(similarities, LIKELY * count)]
            if not self._wanted[tried].all():
                wanted = np.flatnonzero(self._wanted[places])
                tried = places[wanted][_about_highest(similarities[wanted], LIKELY * count)]
            if len(tried) >= count:
                likely[i] = tried
        least = np.zeros(len(queries))
        for i, similarities in self._compared(rows, queries, likely).items():
            least[i] = np.partition(similarities, -count)[-count]
        return least

    def _ranking(self, places: NDArray[Any], similarities: NDArray[np.float64], count: int, complete: bool) -> Ranking:
        if len(places) > count:
            enough = similarities >= np.partition(similarities, -count)[-count]
            places, similarities = places[enough], similarities[enough]
        order = np.lexsort((places, -similarities))
        return Ranking(self._among[places[order]], similarities[order], complete)

    def _exact(self, rows: Any, norms: NDArray[np.float64], number: NDArray[np.int64], places: NDArray[Any]) -> NDArray[np.float64]:
        """Similarities over all words of pairs of a query (its number among `rows`) and a place."""
        own = np.unique(rows.indices)
        self._number[own] = np.arange(1, len(own) + 1)
        entries_of = np.zeros((rows.shape[0], len(own) + 1))
        entries_of[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), self._number[rows.indices]] = rows.data
        texts = self._weights[self._among[places]]  # each has words: it was found by one
        there = entries_of.ravel()[np.repeat(number * entries_of.shape[1], np.diff(texts.indptr)) + self._number[texts.indices]]
        self._number[own] = 0
        if not len(there):
            return np.zeros(len(places))
        dots = np.add.reduceat(texts.data * there, texts.indptr[:-1])
        similarities: NDArray[np.float64] = dots / (self._row_norms[places] * norms[number])
        return similarities


def _tiers(shares: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Texts in tiers by the share of the words before the last border, from high to low.

    Args:
        shares: float32 [borders, texts].

    Returns:
        The tier of each text, and the highest share before each border in each tier and those after it: float32 [borders, tiers + 1].
    """
    sample = -np.sort(-shares[-1, :: 1 + shares.shape[1] // 8192])
    ends = [int(len(sample) * GROWTH**-power) for power in range(1, TIERS)] if len(sample) else []
    inner = np.unique(-sample[ends])
    tier = np.searchsorted(inner, -shares[-1]).astype(np.int32)
    highest = np.zeros((len(shares), len(inner) + 2), np.float32)
    for number in range(len(inner), -1, -1):
        highest[:, number] = np.maximum(highest[:, number + 1], shares[:, tier == number].max(axis=1, initial=0))
    return tier, highest


def _parts(products: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """The numbers of queries in parts of about TOGETHER products."""
    part = np.cumsum(products) // TOGETHER
    return (np.flatnonzero(part == one) for one in np.unique(part))


def _above(rows: Any) -> NDArray[np.float64]:
    """What a float32 sum of products with each row is multiplied by to be a bound from above."""
    above: NDArray[np.float64] = 1 + ROUNDING * (np.diff(rows.indptr) + 8)
    return above


def _about_highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The numbers of about `count` of the highest values, of all if they are fewer. To find exactly those would take longer."""
    blocks = 4 * count
    if len(values) < 2 * blocks:
        return np.argpartition(values, -count)[-count:] if len(values) > count else np.arange(len(values))
    highest = values[: len(values) // blocks * blocks].reshape(-1, blocks).max(axis=0)
    return np.flatnonzero(values >= np.partition(highest, -count)[-count])[: 2 * count]


def _unit(rows: Any, norms: NDArray[np.float64]) -> Any:
    """The rows with the norm 1: float32."""
    from scipy.sparse import csr_array

    entries = (rows.data / np.repeat(norms, np.diff(rows.indptr))).astype(np.float32)
    return csr_array((entries, rows.indices, rows.indptr), shape=rows.shape)


def _before_borders(rows: Any, values: NDArray[np.float64], borders: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of the values of each row's entries before each border: float64 [rows, borders], exact for integers."""
    last = np.searchsorted(borders, rows.indices, side="right") - 1  # the last border before a word
    numbers = last + len(borders) * np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    sums = np.bincount(numbers, values, rows.shape[0] * len(borders)).reshape(-1, len(borders))
    before: NDArray[np.float64] = sums.cumsum(axis=1) - sums
    return before


def _ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The numbers start … start + length - 1 of each range, one range after the other."""
    before = np.cumsum(lengths) - lengths
    ranges: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return ranges

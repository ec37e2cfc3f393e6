"""Which questions are near in meaning (docs/spec/iit.md#building-3-histories): tf-idf in integers, no meaning at all, or a text encoder.

A matcher knows a fixed list of texts by position. Everything is deterministic: equal similarities are ordered by the caller's order (ids).
The nearest texts are exact whatever the size of the list (see pruned_search.py); none of the searches here is approximate.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from builders.pruned_search import PrunedSearch, Ranking
from builders.words import words
from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_files import resolve_checkpoint
from iit_bench.models.devices import pick_device
from iit_bench.models.loading_bars import without_bars

BLOCK = 1 << 22  # similarities to vectors that are held at once


class Search(Protocol):
    """Finds the nearest among some of a matcher's texts."""

    def nearest(self, queries: NDArray[np.int64], count: int) -> list[Ranking]:
        """The ranking of each query (a text's position): at least `count` texts, or all whose similarity is not 0. Exact."""

    def leave_out(self, texts: NDArray[np.int64]) -> None:
        """Find these of its texts no more."""


class Matcher(Protocol):
    """Similarities between the texts it was made from."""

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to every text: float64 [texts], 1 = same direction, at most 1 up to rounding."""

    def similarity(self, a: int, b: int) -> float:
        """Similarity of two texts, the same bits as in `similarities`."""

    def search(self, among: NDArray[np.int64]) -> Search:
        """A search among the texts at these positions, which ascend."""

    @property
    def ranks(self) -> bool:
        """Whether candidates are ordered by similarity. False: they are ordered by a hash, and similarities only find near-duplicates."""


class TfIdf:
    """Cosine of tf-idf vectors whose entries are integers.

    Counts, idf and dot products are exact integers below 2**53; the one division and the square roots are correctly rounded by IEEE 754, so
    every machine gets the same bits, whatever its BLAS or thread count. They are held as float64, which is exact for them.
    """

    def __init__(self, texts: Sequence[str], ranks: bool = True) -> None:
        from scipy.sparse import csr_array

        self.ranks = ranks
        number: dict[str, int] = {}  # word -> its number, in the order of appearance
        seen = (array("i"), array("i"), array("q", [0]))  # numbers of words, how often each occurs, where each text begins
        for text in texts:
            count = Counter(words(text))
            seen[0].extend(number.setdefault(word, len(number)) for word in count)
            seen[1].extend(count.values())
            seen[2].append(len(seen[0]))
        numbers, occurrences, starts = (np.frombuffer(column, column.typecode) for column in seen)
        document_frequency = np.bincount(numbers, minlength=len(number))
        idf = np.array([integer_idf(len(texts), int(df)) for df in document_frequency], np.float64)
        column = np.empty(len(number), np.int32)  # the most frequent words first: those are left out of a search
        column[np.argsort(-document_frequency, kind="stable")] = np.arange(len(number))
        shape = (len(texts), len(number))
        self._weights: Any = csr_array((occurrences * idf[numbers], column[numbers], starts.astype(np.int32)), shape=shape)
        self._weights.sort_indices()
        squares = self._weights.power(2) @ np.ones(len(number))
        self._entries = lru_cache(maxsize=1 << 10)(partial(_row, self._weights))
        self._norms = np.sqrt(np.maximum(squares, 1))  # a text without words is similar to nothing

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to each text: float64 [texts]."""
        dots: NDArray[np.float64] = (self._weights @ self._weights[[text]].T).toarray().ravel()
        similarities: NDArray[np.float64] = dots / (self._norms * self._norms[text])
        return similarities

    def similarity(self, a: int, b: int) -> float:
        """Similarity of two texts."""
        here, there = self._entries(a), self._entries(b)
        dot = sum(weight * there[column] for column, weight in here.items() if column in there)
        return float(dot / (self._norms[a] * self._norms[b]))

    def search(self, among: NDArray[np.int64]) -> Search:
        """An exact search that looks at frequent words only where they can decide."""
        return PrunedSearch(self._weights, self._norms, among)


def _row(weights: Any, text: int) -> dict[int, float]:
    """Column -> entry of a row."""
    row = slice(weights.indptr[text], weights.indptr[text + 1])
    return dict(zip(weights.indices[row].tolist(), weights.data[row].tolist(), strict=True))


@cache
def integer_idf(texts: int, containing: int) -> int:
    """1 + floor(64 · log2((texts + 1) / (containing + 1))), by integer arithmetic (the last bit of libm differs by machine)."""
    return ((texts + 1) ** 64 // (containing + 1) ** 64).bit_length()


class Encoder:
    """Cosine of the mean-pooled hidden states of a transformers encoder, by path or Hub id. Bits are the same only on one kind of device.

    Texts of like length are encoded together. Similarities are rounded to 12 decimals, so that equal vectors tie, however a product
    of matrices is divided into parts.

    Args:
        device: as `--device`; the encoder runs there in float32.

    Raises:
        UserError: the encoder cannot be loaded.
    """

    ranks = True

    def __init__(self, texts: Sequence[str], name: str, batch_size: int = 64, device: str = "auto") -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from iit_bench.models.checkpoints import load_whole

        where = pick_device(device)
        try:
            with without_bars(downloads=sys.stderr.isatty()):
                folder = resolve_checkpoint(name)
                tokenizer = AutoTokenizer.from_pretrained(folder)
                model = load_whole(AutoModel, folder, may_lack=("pooler",), dtype=torch.float32, use_safetensors=True).eval().to(where)
        except Exception as error:  # of any library that reads a stranger's files
            raise UserError(
                f"--match {name!r} is neither tfidf, none nor a text encoder that transformers can load "
                f"({one_line(error)}); give the path or Hub id of one"
            ) from error
        limit = min(getattr(model.config, "max_position_embeddings", 512), 512)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self._vectors = np.zeros((len(texts), model.config.hidden_size if texts else 1), np.float32)
        for start in range(0, len(texts), batch_size):
            batch = by_length[start : start + batch_size]
            inputs = tokenizer([texts[i] for i in batch], padding=True, truncation=True, max_length=limit, return_tensors="pt").to(where)
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state  # [batch, tokens, width]
                mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
                self._vectors[batch] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to each text: float64 [texts]."""
        return _cosines(self._vectors, self._vectors[text])

    def similarity(self, a: int, b: int) -> float:
        """Similarity of two texts."""
        return float(_cosines(self._vectors[[a]], self._vectors[b])[0])

    def search(self, among: NDArray[np.int64]) -> Search:
        """A search that compares all pairs, in blocks."""
        return DenseSearch(self._vectors, among)


class DenseSearch:
    """The nearest of some unit vectors (float32 [texts, width]) by their products, in float64."""

    def __init__(self, vectors: NDArray[np.float32], among: NDArray[np.int64]) -> None:
        self._vectors, self._among = vectors, among

    def leave_out(self, texts: NDArray[np.int64]) -> None:
        """Find these of its texts no more."""
        self._among = np.setdiff1d(self._among, texts, assume_unique=True)

    def nearest(self, queries: NDArray[np.int64], count: int) -> list[Ranking]:
        """The ranking of each query."""
        found: list[Ranking] = []
        together = max(1, BLOCK // max(1, len(self._among)))
        for start in range(0, len(queries), together):
            columns = self._vectors[queries[start : start + together]].T
            similarities = np.concatenate(
                [_cosines(self._vectors[self._among[i : i + 4096]], columns) for i in range(0, len(self._among), 4096)]
                or [np.zeros((0, columns.shape[1]))]
            )
            found += [self._ranking(similarities[:, i], count) for i in range(columns.shape[1])]
        return found

    def _ranking(self, similarities: NDArray[np.float64], count: int) -> Ranking:
        places, complete = np.arange(len(similarities)), len(similarities) <= count
        if not complete:
            places = np.flatnonzero(similarities >= np.partition(similarities, -count)[-count])
        order = places[np.argsort(-similarities[places], kind="stable")]
        return Ranking(self._among[order], similarities[order], complete)


def _cosines(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Products of unit vectors with columns, in float64, rounded to 12 decimals."""
    products: NDArray[np.float64] = np.round(vectors.astype(np.float64) @ others.astype(np.float64), 12)
    return products


def make_matcher(match: str, texts: Sequence[str]) -> Matcher:
    """The matcher called `match`: `tfidf`, `none` (order by hash; tf-idf only finds near-duplicates), or an encoder's path or Hub id."""
    if match in ("tfidf", "none"):
        return TfIdf(texts, ranks=match == "tfidf")
    return Encoder(texts, match)

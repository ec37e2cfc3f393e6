"""Which questions are near in meaning (docs/spec/iit.md#building-3-histories): tf-idf in integers, no meaning at all, or a text encoder.

A matcher knows a fixed list of texts by position. Everything is deterministic: equal similarities are ordered by the caller's order (ids).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from builders.words import words
from iit_bench.errors import UserError, one_line


class Matcher(Protocol):
    """Similarities between the texts it was made from."""

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to every text: float64 [texts], 1 = same direction, at most 1 up to rounding."""

    @property
    def ranks(self) -> bool:
        """Whether candidates are ordered by similarity. False: they are ordered by a hash, and similarities only find near-duplicates."""


class TfIdf:
    """Cosine of tf-idf vectors whose entries are integers.

    Counts, idf and dot products are exact integers below 2**53; the one division and the square roots are correctly rounded by IEEE 754, so
    every machine gets the same bits, whatever its BLAS or thread count.
    """

    def __init__(self, texts: Sequence[str], ranks: bool = True) -> None:
        from scipy.sparse import csr_array

        self.ranks = ranks
        counts = [Counter(words(text)) for text in texts]
        document_frequency = Counter(word for count in counts for word in count)
        column = {word: i for i, word in enumerate(sorted(document_frequency))}
        rows: list[int] = []
        columns: list[int] = []
        values: list[int] = []
        for row, count in enumerate(counts):
            for word, occurrences in count.items():
                rows.append(row)
                columns.append(column[word])
                values.append(occurrences * integer_idf(len(texts), document_frequency[word]))
        entries = np.array(values, np.int64)
        self._weights: Any = csr_array((entries, (rows, columns)), shape=(len(texts), len(column)))
        squares = np.zeros(len(texts), np.int64)
        np.add.at(squares, rows, entries * entries)
        self._norms = np.sqrt(np.maximum(squares, 1).astype(np.float64))  # a text without words is similar to nothing

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to each text: float64 [texts]."""
        dots: NDArray[np.float64] = (self._weights @ self._weights[[text]].T).toarray().ravel().astype(np.float64)
        similarities: NDArray[np.float64] = dots / (self._norms * self._norms[text])
        return similarities


@cache
def integer_idf(texts: int, containing: int) -> int:
    """1 + floor(64 · log2((texts + 1) / (containing + 1))), by integer arithmetic (the last bit of libm differs by machine)."""
    return ((texts + 1) ** 64 // (containing + 1) ** 64).bit_length()


class Encoder:
    """Cosine of the mean-pooled hidden states of a transformers encoder, by path or Hub id. Bits are the same only on the same kind of CPU.

    Raises:
        UserError: the encoder cannot be loaded.
    """

    ranks = True

    def __init__(self, texts: Sequence[str], name: str, batch_size: int = 64) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise UserError(
                f"--match {name!r} is neither tfidf, none nor a text encoder that transformers can load "
                f"({one_line(error)}); give the path or Hub id of one"
            ) from error
        limit = getattr(model.config, "max_position_embeddings", 512)
        batches = []
        for start in range(0, len(texts), batch_size):
            inputs = tokenizer(
                list(texts[start : start + batch_size]), padding=True, truncation=True, max_length=min(limit, 512), return_tensors="pt"
            )
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state  # [batch, tokens, width]
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            batches.append(torch.nn.functional.normalize(mean, dim=-1).double().numpy())
        self._vectors = np.concatenate(batches) if batches else np.zeros((0, 1))

    def similarities(self, text: int) -> NDArray[np.float64]:
        """Similarity of one text to each text: float64 [texts]."""
        similarities: NDArray[np.float64] = self._vectors @ self._vectors[text]
        return similarities


def make_matcher(match: str, texts: Sequence[str]) -> Matcher:
    """The matcher called `match`: `tfidf`, `none` (order by hash; tf-idf only finds near-duplicates), or an encoder's path or Hub id."""
    if match in ("tfidf", "none"):
        return TfIdf(texts, ranks=match == "tfidf")
    return Encoder(texts, match)

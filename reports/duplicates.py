"""Near-duplicates among a benchmark's targets, computed from its questions: equal words, mostly equal words, equal images."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Question
from reports.cells import Column, Table, count, in_percent, number_cell, percent, text_cell
from reports.section import Folded, Part, TablePart, Words

NEAR = 0.9  # shared words / all words of two questions, from which on they are near-duplicates
MOST = 5000  # text targets that are compared pair by pair
_EXAMPLES = 20
_WORD = re.compile(r"\w+")


def near_duplicates(benchmark: Benchmark) -> tuple[Part, ...]:
    """The parts of the section: how it is computed, the counts, and examples."""
    targets = [benchmark.questions[name] for name in dict.fromkeys(dialogue.target for dialogue in benchmark.dialogues)]
    text = [question for question in targets if question.modality == "T"]
    words = [_words(question) for question in text]
    equal = sum(n for n in Counter(words).values() if n > 1)
    pairs = near_pairs(words) if len(text) <= MOST else None
    near = len({place for a, b, _ in pairs for place in (a, b)}) if pairs is not None else None
    images = Counter(image.sha256 for question in targets for image in question.images)
    shared = sum(n > 1 for n in images.values())
    how = (
        f"Computed here, over the targets. Text: two questions whose words (of question and choices, without case) are equal, or of which "
        f"at least {in_percent(NEAR)} are shared. Images: equal bytes. When the benchmark was built, near-duplicates of a target were kept "
        "out of its histories, by text similarity and image bytes."
    )
    rows = (
        (text_cell("text targets with the words of another"), number_cell(equal), number_cell(len(text))),
        (
            text_cell("text targets with a near-duplicate"),
            number_cell(near, "" if near is not None else f"not computed over {count(MOST)} targets"),
            number_cell(len(text)),
        ),
        (text_cell("images that several visual targets show"), number_cell(shared), number_cell(len(images))),
    )
    table = Table(
        "duplicates-table", "How much the targets repeat each other.", (Column("what", words=True), Column("count"), Column("of")), rows
    )
    return (TablePart(table), Words(how, "fine"), *_examples(text, pairs or []))


def _examples(text: Sequence[Question], pairs: Sequence[tuple[int, int, float]]) -> tuple[Part, ...]:
    if not pairs:
        return ()
    shown = sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:_EXAMPLES]
    rows = tuple(
        (
            text_cell(" ".join(text[a].question.split())[:160]),
            text_cell(" ".join(text[b].question.split())[:160]),
            number_cell(share, percent(share)),
        )
        for a, b, share in shown
    )
    columns = (Column("question", words=True), Column("near-duplicate", words=True), Column("words shared", ("%",)))
    table = Table("duplicates-pairs", f"The {len(shown)} closest of {count(len(pairs))} pairs.", columns, rows)
    return (Folded("Closest pairs", (TablePart(table),)),)


def _words(question: Question) -> tuple[str, ...]:
    text = " ".join((question.question, *question.choices))
    return tuple(sorted(set(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))))


def near_pairs(words: Sequence[tuple[str, ...]]) -> list[tuple[int, int, float]]:
    """(i, j, share) of every pair i < j whose shared words are at least NEAR of all their words (Jaccard), of sets without repeats."""
    from scipy.sparse import csr_array

    place = {word: i for i, word in enumerate(sorted({word for one in words for word in one}))}
    sizes = np.array([len(one) for one in words], dtype=np.int64)
    if not len(sizes) or not place:
        return []
    columns = np.array([place[word] for one in words for word in one], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(words), len(place)))
    found = []
    for start in range(0, len(words), 256):
        shared = (matrix[start : start + 256] @ matrix.T).tocoo()
        i, j = shared.coords[0] + start, shared.coords[1]
        share = shared.data / (sizes[i] + sizes[j] - shared.data)
        keep = (i < j) & (share >= NEAR)
        found += list(zip(i[keep].tolist(), j[keep].tolist(), share[keep].tolist(), strict=True))
    return sorted(found)

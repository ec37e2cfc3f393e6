"""Documents of CLUE's ChID and OCNLI (clue/clue) for lm-eval tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BLANK, OTHER = "______", "（……）"
CLUE_LABELS = ("neutral", "entailment", "contradiction")  # of a label number, where the files do not name them
ASKED_LABELS = ("entailment", "neutral", "contradiction")  # in the order of the task's choices


def blanks(dataset: Any) -> Any:
    """Rows `content` (texts), `candidates`, `answers` {text: marks, candidate_id} → one row per blank; other blanks of its text stay open.

    A blank without an answer (candidate_id below 0, as in the test split) gives no row.
    """
    from datasets import Dataset

    return Dataset.from_list([made for row in dataset for made in _blanks(row)])


def _blanks(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    marks = list(zip(row["answers"]["text"], row["answers"]["candidate_id"], strict=True))
    for mark, answer in marks:
        text = next((text for text in row["content"] if mark in text), None)
        if text is None or answer < 0:
            continue
        text = text.replace(mark, BLANK)
        for other, _ in marks:
            text = text.replace(other, OTHER)
        yield {"blank": mark, "text": text, "candidates": list(row["candidates"]), "answer": answer}


def labelled(dataset: Any) -> Any:
    """Rows with a gold label, its place among the task's choices in `gold`."""
    names = getattr(dataset.features["label"], "names", None) or CLUE_LABELS
    kept = dataset.filter(lambda row: row["label"] is not None and row["label"] >= 0)
    return kept.map(lambda row: {"gold": ASKED_LABELS.index(names[row["label"]])})

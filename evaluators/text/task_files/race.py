"""RACE as ehovy/race publishes it (one row per question), in the form of lm-eval's `race` (one document per passage)."""

from __future__ import annotations

from typing import Any

from lm_eval.tasks.race.preprocess_race import doc_to_choice, doc_to_target, doc_to_text

__all__ = ["by_passage", "doc_to_choice", "doc_to_target", "doc_to_text"]


def by_passage(dataset: Any) -> Any:
    """Rows `example_id`, `article`, `question`, `options`, `answer` → one row per passage, its questions in their order in `problems`."""
    from datasets import Dataset

    passages: dict[str, dict[str, Any]] = {}
    for row in dataset:
        passage = passages.setdefault(row["example_id"], {"example_id": row["example_id"], "article": row["article"], "problems": []})
        passage["problems"].append({name: row[name] for name in ("question", "answer", "options")})
    return Dataset.from_list([passage | {"problems": repr(passage["problems"])} for passage in passages.values()])

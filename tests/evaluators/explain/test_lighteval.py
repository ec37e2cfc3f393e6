"""Details of lighteval as sides: what is planted in files of its real columns is recovered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluators.explain.explain import explain

DATE = "2026-01-02T03-04-05.678901"
TASK, N = "words|0", 20
ALIKE = ("weights", "dtype", "decoding", "template", "prompt")


def write(
    folder: Path, replies: dict[int, str] | None = None, *, limit: int = 8, dtype: str = "float32", n: int = N, **planted: Any
) -> Path:
    """Results and details of questions whose right answer is "Paris is it"; `replies` are the others. `planted`: fields of some answers."""
    rows: list[dict[str, Any]] = []
    for place in range(n):
        reply = (replies or {}).get(place, "Paris is it")
        doc = {"query": f"Question {place}?", "choices": ["Paris is it"], "gold_index": 0, "id": f"doc-{place}", "task_name": TASK}
        doc |= {"generation_size": limit, "stop_sequences": ["\n"]}
        response = {"input": f"Question {place}?\nAnswer:", "text": [reply], "logprobs": [], "truncated_tokens_count": 0, "reasonings": []}
        response |= {name: values[place] for name, values in planted.items() if place in values}
        rows.append({"doc": doc, "metric": {"em": float(reply == "Paris is it")}, "model_response": response})
    mean = sum(row["metric"]["em"] for row in rows) / n
    config = {"model_name": "org/model", "dtype": dtype, "generation_parameters": {"temperature": 0, "max_new_tokens": None}}
    content = {
        "config_general": {"lighteval_sha": "abc", "max_samples": None, "model_name": "org/model", "model_config": config},
        "results": {TASK: {"em": mean, "em_stderr": 0.1}},
        "versions": {TASK: 1},
        "config_tasks": {TASK: {"original_num_docs": N, "effective_num_docs": n}},
    }
    path = folder / "results" / "org" / "model" / f"results_{DATE}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    details = folder / "details" / "org" / "model" / DATE / f"details_{TASK}_{DATE}.parquet"
    details.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), details)
    return path


def parts(a: Path, b: Path, same: tuple[str, ...] = ALIKE) -> dict[str, float]:
    found = explain([a, b], same=same)
    sizes = {part.name: part.size.value for part in found.parts if part.size.value}
    assert sum(sizes.values()) == pytest.approx(found.gap.value)
    return sizes


def test_a_reply_cut_at_the_limit_of_the_task_is_truncation(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b", dict.fromkeys(range(5), "Paris"), limit=1)
    assert parts(a, b, same=()) == {"truncation": pytest.approx(5 / N)}


def test_its_count_of_cut_tokens_is_not_believed(tmp_path: Path) -> None:
    """lighteval writes characters minus tokens there, for prompts that were not cut as well."""
    b = write(tmp_path / "b", dict.fromkeys(range(6), "Rome"), truncated_tokens_count=dict.fromkeys(range(6), 40))
    assert parts(write(tmp_path / "a"), b) == {"not explained": pytest.approx(6 / N)}


def test_other_precision_and_missing_items_are_told_apart(tmp_path: Path) -> None:
    a = write(tmp_path / "a")
    b = write(tmp_path / "b", dict.fromkeys(range(4), "Rome"), dtype="bfloat16", n=16)
    assert parts(a, b, ("weights", "decoding", "prompt", "template")) == {"dtype": pytest.approx(4 / 16)}
    worse = write(tmp_path / "c", {17: "Rome", 18: "Rome"})
    assert parts(worse, b, ("weights", "decoding", "prompt", "template")) == {
        "items": pytest.approx(18 / N - 1),
        "dtype": pytest.approx(4 / 16),
    }


def test_equal_prompts_on_record_leave_neither_prompt_nor_template(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b", {0: "Rome"})
    ((split,),) = explain([a, b], same=("weights", "dtype")).steps
    (possible,) = split.causes.values()
    assert possible == ()
    other = write(tmp_path / "c", {0: "Rome"}, input={0: "Question 0? Answer:"})
    ((split,),) = explain([a, other], same=("weights", "dtype")).steps
    assert {"prompt", "template"} <= set(*split.causes.values())

"""How a task of lm-eval was asked, from its results and samples: few-shot examples, which documents, the chance level."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import UndefinedError

from iit_bench.tools.lm_eval.fields import fields_of, render, shared
from iit_bench.types import TaskResult

# Metrics of a multiple-choice task whose chance level is the mean of right choices / choices.
CHANCE_METRICS = ("acc", "acc_norm", "acc_bytes")


def details_of(task: str, evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TaskResult` for a task of lm-eval's EvalResults; those that its samples give only where it has samples.

    documents_sha256 does not depend on the model or its chat template: two runs with the same one were asked the same documents.
    """
    config, shots = evaluated.get("configs", {}).get(task, {}), evaluated.get("n-shot", {})
    details: dict[str, Any] = {
        "n_shot": int(shots[task] or 0) if task in shots else None,
        "version": str(evaluated.get("versions", {}).get(task, "")),
        "n_documents": int(evaluated["n-samples"][task]["original"]),
        "output_type": str(config.get("output_type") or ""),
    }
    samples = evaluated.get("samples", {}).get(task)
    if samples:
        details["documents_sha256"] = documents_sha256(samples)
        if config.get("output_type") == "multiple_choice":
            level = chance(task, samples)
            metrics = {metric for sample in samples for metric in sample["metrics"]} if level is not None else ()
            details["chance"] = dict.fromkeys((metric for metric in CHANCE_METRICS if metric in metrics), level)
    return details


def group_details(name: str, evaluated: Mapping[str, Any], members: Mapping[str, TaskResult]) -> dict[str, Any]:
    """Fields of `TaskResult` for a group: what all its tasks agree on, the chance level and a hash over all their documents."""
    shots = {result.n_shot for result in members.values()}
    output_types = {result.output_type for result in members.values()}
    details: dict[str, Any] = {
        "members": tuple(members),
        "n_shot": shots.pop() if len(shots) == 1 else None,
        "output_type": output_types.pop() if len(output_types) == 1 else "",
        "version": str(evaluated.get("versions", {}).get(name, "")),
    }
    known = [metric for metric in CHANCE_METRICS if members and all(metric in result.chance for result in members.values())]
    sizes = [evaluated["n-samples"][task]["effective"] for task in members]
    for metric in known:
        levels = [result.chance[metric] for result in members.values()]
        level = sum(level * size for level, size in zip(levels, sizes, strict=True)) / sum(sizes)
        details.setdefault("chance", {})[metric] = level
    if members and all(result.documents_sha256 for result in members.values()):
        lines = [f"{task} {result.documents_sha256}\n" for task, result in sorted(members.items())]
        details["documents_sha256"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return details


def documents_sha256(samples: Sequence[Mapping[str, Any]]) -> str:
    """Hash of the documents and gold answers, by lm-eval's own hashes of each; a document that several filters read counts once."""
    lines = {int(sample["doc_id"]): f"{sample['doc_id']} {sample['doc_hash']} {sample['target_hash']}\n" for sample in samples}
    return hashlib.sha256("".join(lines[number] for number in sorted(lines)).encode()).hexdigest()


def chance(task: str, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean of right choices / choices over the documents of a multiple-choice task: the accuracy of a uniform guess.

    A choice that was also scored without its question counts once. None where an accuracy is none of 0/1 items and the task's fields
    (`iit_bench.tools.lm_eval.fields`) do not declare how many choices are right.
    """
    declared = fields_of(task).right
    if not declared and any(sample.get(metric) not in (0, 1, None) for sample in samples for metric in CHANCE_METRICS):
        return None
    levels: dict[Any, float] = {}
    for sample in samples:
        k = _choices(sample)
        try:
            right = float(render(declared, sample["doc"])) if declared else _right(sample, k)
        except (KeyError, ValueError, UndefinedError):
            return None
        levels[sample["doc_id"]] = right / k
    return sum(levels.values()) / len(levels)


def cluster_of(task: str, sample: Mapping[str, Any]) -> str:
    """What a document depends on and others may share: its passage or source where the task's fields declare one, else its own number."""
    number = str(sample["doc_id"])
    try:
        return shared(task, sample["doc"]) or number
    except (KeyError, TypeError, UndefinedError):  # another task of a name that matches, whose documents have no such field
        return number


def _right(sample: Mapping[str, Any], k: int) -> int:
    """Right choices of a document: several where its target is a list of positions, which lm-eval's files hold as a text."""
    target = sample.get("target")
    if isinstance(target, str) and target.startswith("["):
        try:
            target = ast.literal_eval(target)
        except (ValueError, SyntaxError):
            return 1
    if not isinstance(target, (list, tuple)) or not all(isinstance(one, int) for one in target):
        return 1
    return len({one for one in target if 0 <= one < k})


def _choices(sample: Mapping[str, Any]) -> int:
    scored = len(sample["filtered_resps"])
    return max(1, scored // 2 if "acc_mutual_info" in sample["metrics"] else scored)

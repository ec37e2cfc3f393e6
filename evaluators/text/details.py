"""What lm-eval's samples say of a task beside its scores: which documents were asked, and how far guessing comes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.types import TaskResult

GUESSED = ("acc", "acc_norm", "acc_bytes")  # metrics of a multiple-choice task whose chance level is one of its number of choices


def details_of(task: str, found: Mapping[str, Any]) -> dict[str, str]:
    """`TaskResult.details` of a task of lm-eval's EvalResults; what its samples tell is there only where it has samples.

    documents_sha256 does not depend on the model or its chat template: two runs with the same one were asked the same documents.
    """
    config = found.get("configs", {}).get(task, {})
    details = {"n-shot": str(found.get("n-shot", {}).get(task, 0)), "version": str(found.get("versions", {}).get(task, ""))}
    details |= {"documents": str(found["n-samples"][task]["original"])}
    details |= {"output_type": str(config["output_type"])} if config.get("output_type") else {}
    samples = found.get("samples", {}).get(task)
    if samples:
        details["documents_sha256"] = documents_sha256(samples)
        if config.get("output_type") == "multiple_choice":
            details["chance"] = repr(chance(samples))
    return details


def group_details(name: str, found: Mapping[str, Any], members: Mapping[str, TaskResult]) -> dict[str, str]:
    """`TaskResult.details` of a group: what all its tasks agree on, the chance level and a hash over all their documents."""
    details = {"group of": str(len(members)), "members": ",".join(members)}
    for key in ("n-shot", "output_type"):
        if len(values := {result.details.get(key) for result in members.values()}) == 1 and (value := values.pop()):
            details[key] = value
    details["version"] = str(found.get("versions", {}).get(name, ""))
    if members and all("chance" in result.details for result in members.values()):
        sizes = [found["n-samples"][task]["effective"] for task in members]
        levels = [float(result.details["chance"]) for result in members.values()]
        details["chance"] = repr(sum(level * size for level, size in zip(levels, sizes, strict=True)) / sum(sizes))
    hashes = [f"{task} {result.details.get('documents_sha256', '')}\n" for task, result in sorted(members.items())]
    if all(len(line.split()) == 2 for line in hashes):
        details["documents_sha256"] = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return details


def documents_sha256(samples: Sequence[Mapping[str, Any]]) -> str:
    """Hash of the documents and gold answers, by lm-eval's own hashes of each; a document that several filters read counts once."""
    asked = {int(sample["doc_id"]): f"{sample['doc_id']} {sample['doc_hash']} {sample['target_hash']}\n" for sample in samples}
    return hashlib.sha256("".join(asked[number] for number in sorted(asked)).encode()).hexdigest()


def chance(samples: Sequence[Mapping[str, Any]]) -> float:
    """Mean of 1/k over the documents of a multiple-choice task; a choice that was also scored without its question counts once."""
    choices = {sample["doc_id"]: _choices(sample) for sample in samples}
    return sum(1 / k for k in choices.values()) / len(choices)


def _choices(sample: Mapping[str, Any]) -> int:
    scored = len(sample["filtered_resps"])
    return max(1, scored // 2 if "acc_mutual_info" in sample["metrics"] else scored)

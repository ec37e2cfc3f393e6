"""results.json of run folders of format versions 1 and 2, in the form that versions 3 and 4 have; 4 is 3 with a seal.

Version 1 kept in texts what version 2 has in fields: hashes, counts and chance levels as strings in `details`, the state of a task in the
first words of a note, positions in a subject. Versions 1 and 2 had forgetting as run minus base. Values and intervals are taken as they
were stored; `evaluators.runs.recompute` makes them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CHANCE_METRICS = ("acc", "acc_norm", "acc_bytes")  # metrics that the chance level of version 1 was of
_NOT_RUN, _FAILED, _STDERR = "not run", "VLMEvalKit failed", "stderr"  # as notes began, and what a method had in it


def upgraded(results: Mapping[str, Any]) -> dict[str, Any]:
    """results.json of an earlier version (of any suite) with the fields and signs of the version that is written now.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    if not has_other_figures(results):
        return dict(results)
    return _from_2(_from_1(results) if results["version"] == 1 else results)


def has_other_figures(results: Mapping[str, Any]) -> bool:
    """Whether results.json is of a version whose figures were defined, or computed, otherwise than now."""
    return bool(results["version"] < 3)


def _from_2(results: Mapping[str, Any]) -> dict[str, Any]:
    """Forgetting with its sides exchanged: base minus run."""
    forgetting = results.get("forgetting")
    if not forgetting:
        return dict(results)
    turned = {"per_tier": [_turned(one) for one in forgetting["per_tier"]], "pooled": _turned(forgetting["pooled"])}
    return {**results, "forgetting": {**forgetting, **turned}}


def _turned(result: Mapping[str, Any]) -> dict[str, Any]:
    figure = result["difference"]
    value, low, high = (None if figure[name] is None else -figure[name] or 0.0 for name in ("value", "high", "low"))  # no "-0.0"
    sides = {"against": "this run", "only_a": result["only_b"], "only_b": result["only_a"]}
    return {**result, **sides, "difference": {**figure, "value": value, "low": low, "high": high}}


def _from_1(results: Mapping[str, Any]) -> dict[str, Any]:
    """What version 1 had in texts, in fields."""
    if "tasks" in results:
        return {**results, "tasks": [_task(task) for task in results["tasks"]]}
    forgetting = results.get("forgetting")
    return {
        **results,
        "interleaving": [_paired(one) for one in results["interleaving"]],
        "positions": [_position(one) for one in results.get("positions", ())],
        "forgetting": forgetting
        and {**forgetting, "per_tier": [_paired(one) for one in forgetting["per_tier"]], "pooled": _paired(forgetting["pooled"])},
    }


def _paired(result: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, "over": result["tier"]}


def _position(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "position": int(part["subject"].removeprefix("position "))}


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    details, scores = task["details"], task["scores"]
    chance = {name: float(details["chance"]) for name in _CHANCE_METRICS if name in scores} if "chance" in details else {}
    n_documents = details.get("documents", details.get("rows main"))
    return {
        **task,
        "scores": {name: {**figure, "from_stderr": _STDERR in figure["method"]} for name, figure in scores.items()},
        "state": _state(scores),
        "members": [name for name in details["members"].split(",") if name] if "members" in details else None,
        "chance": chance,
        "n_shot": int(details["n-shot"]) if "n-shot" in details else None,
        "output_type": details.get("output_type", details.get("type", "")),
        "version": details.get("version", ""),
        "n_documents": None if n_documents is None else int(n_documents),
        "n_without_image": int(details.get("rows no-image", 0)),
        "documents_sha256": details.get("documents_sha256", details.get("sha256", "")),
        "data_sha256": details.get("data_sha256", ""),
        "revision": details.get("revision", ""),
        "judge": details.get("judge", ""),
        "dataset_class": details.get("class", ""),
    }


def _state(scores: Mapping[str, Mapping[str, Any]]) -> str:
    notes = [figure["note"] for figure in scores.values() if figure["value"] is None]
    if any(note.startswith(_FAILED) for note in notes):
        return "failed"
    return "not run" if any(note.startswith(_NOT_RUN) for note in notes) else "scored"

"""A run of suite iit as a side: a task per tier, an item per dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.explain.rules import IIT_RULE, iit_reading
from evaluators.explain.settings import weights_of
from evaluators.explain.sides import Answer, AskedTask, Cause, Settings, Side
from evaluators.iit.columns import METRICS
from evaluators.iit.comparison import asked_with
from evaluators.runs.reading import is_iit
from iit_bench.errors import UserError
from iit_bench.storage.runs import IitRun
from iit_bench.types import Prediction


def iit_side(run: IitRun, metric: str | None) -> Side:
    """A run of suite iit as a side; only targets count.

    Raises:
        UserError: the metric is none of suite iit.
    """
    assert is_iit(run)
    metric = metric or "acc"
    if metric not in METRICS:
        raise UserError(f"run {str(run.path)!r} is of suite iit and has no metric {metric!r}; it has {', '.join(METRICS)}")
    by_tier: dict[str, list[Prediction]] = {}
    for row in run.predictions:
        if row.is_target:
            by_tier.setdefault(row.tier, []).append(row)
    seen = _seen(run)
    tasks = {tier: _task(run.run, tier, rows, metric, seen) for tier, rows in by_tier.items()}
    return Side(name=str(run.run["name"]), tool="iit-bench", place=str(run.path), tasks=tasks, left_out={})


def _seen(run: IitRun) -> dict[tuple[str, int], str]:
    """The prompts as the model read them, hashed, of a run that recorded them; not of images, which are more than their marks."""
    columns = run.prompt_columns()
    if columns is None:
        return {}
    kind = "text" if run.run["scoring"] == "generate" else "iit-bench's text of scored choices"
    turns = zip(*(columns[name].to_pylist() for name in ("dialogue", "position", "sha256")), strict=True)
    return {(dialogue, position): f"{kind}:{sha256}" for dialogue, position, sha256 in turns}


def _task(header: Mapping[str, Any], tier: str, rows: Sequence[Prediction], metric: str, seen: Mapping[tuple[str, int], str]) -> AskedTask:
    generates = header["scoring"] == "generate"
    style = header["style"]
    rule = IIT_RULE.format(style)
    return AskedTask(
        name=tier,
        metric=metric,
        rules=dict.fromkeys(METRICS, rule) if generates else {name: f"iit-bench's {name}" for name in METRICS},
        answers={row.dialogue: _answer(row, metric, header if generates else None, seen) for row in rows},
        settings=_settings(header, tier),
        read=iit_reading(style) if generates else None,
        tier=tier,
        dialogues={row.dialogue: row.dialogue for row in rows},
        scoring=header["scoring"],
    )


def _answer(row: Prediction, metric: str, header: Mapping[str, Any] | None, seen: Mapping[tuple[str, int], str]) -> Answer:
    """An answer; with `header` its generated reply."""
    failed = row.outcome == "error"
    chosen = {"acc": row.chosen, "acc_norm": row.chosen_norm, "acc_bytes": row.chosen_bytes}
    scores = {name: float(not failed and choice == row.answer) for name, choice in chosen.items()}
    known: dict[str, Any] = {}
    if header is not None and not failed:
        known = {"reply": row.reply, "limit": header.get("max_new_tokens"), "stops": (), "drawn": False}
        known["cut"] = True if row.outcome == "truncated" or row.finish_reason == "length" else False if row.finish_reason else None
    known |= {"choices": row.choices, "gold": row.answer, "histories": row.history_clusters}
    known["prompt"] = "" if "V" in row.tier else seen.get((row.dialogue, row.position), "")
    return Answer(score=scores[metric], scores=scores, cluster=row.cluster, **known)


def _settings(header: Mapping[str, Any], tier: str) -> dict[Cause, Settings]:
    model: Mapping[str, Any] = header["model"]
    words = asked_with(header)
    prompt: dict[str, str | None] = {
        "benchmark": str(header["benchmark"]["rows_sha256"]),
        "layout": "turns of a chat",
        "style": str(header["style"]),
        "system prompt": str(header.get("system_prompt") or "none"),
    }
    if len(tier) > 1:
        prompt["history"] = str(header["history"])
    if "V" in tier:
        prompt["images"] = "removed" if model.get("blind") else "shown"
        if chosen := header.get("processor_kwargs"):
            prompt["image settings"] = ", ".join(f"{name}={chosen[name]}" for name in sorted(chosen))
    template: dict[str, str | None] = {"chat template": str(model.get("chat_template_sha256") or "") or None}
    template["template arguments"] = words["template arguments"]
    if words["date"] != "not asked for":
        template["date"] = words["date"]
    decoding: dict[str, str | None] = {"scoring": str(header["scoring"])}
    if header["scoring"] == "generate":
        decoding |= {"sampling": "greedy", "reasoning tokens": words["reasoning tokens"]}
    dtype = {"dtype": str(model.get("dtype") or "") or None}
    return {"prompt": prompt, "template": template, "decoding": decoding, "weights": weights_of(header), "dtype": dtype}

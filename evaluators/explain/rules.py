"""Extraction rules that can be run on any reply: this project's, lm-eval's filters with exact_match, VLMEvalKit's matching of choices."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.explain.sides import Answer, Reading
from evaluators.iit.extraction import extract_choice
from iit_bench.types import Style

IIT_RULE = "iit-bench's extraction, style {}"
KIT_RULE = "VLMEvalKit's exact matching"


def iit_reading(style: Style) -> Reading:
    """This project's extraction of a choice (docs/spec/iit.md#reading-a-reply)."""

    def read(answers: Sequence[Answer]) -> list[float | None]:
        return [
            None if one.reply is None or one.gold is None else float(extract_choice(one.reply, one.choices, style) == one.gold)
            for one in answers
        ]

    return read


def kit_reading(answers: Sequence[Answer]) -> list[float | None]:
    """VLMEvalKit's exact matching, by its own function; nothing where it is not installed."""
    from importlib import import_module

    from iit_bench.errors import UserError
    from iit_bench.tools.vlmevalkit import shells

    try:
        with shells():
            infer = import_module("vlmeval.utils.matching_util").can_infer
            return [_kit_score(infer, one) for one in answers]
    except UserError:
        return [None] * len(answers)


def _kit_score(infer: Any, one: Answer) -> float | None:
    if one.reply is None or one.gold is None:
        return None
    options = dict(zip(string.ascii_uppercase, one.choices, strict=False))
    return float(infer(one.reply, options) == string.ascii_uppercase[one.gold])


# ---------------------------------------------------------------- lm-eval


def lm_eval_rule(config: Mapping[str, Any], key: str) -> str:
    """Identity of the rule behind a metric of an lm-eval task: metric, its settings, filter, the task's own function."""
    metric, _, name = key.partition(",")
    listed = _metric_of(config, metric)
    settings = {field: listed[field] for field in sorted(listed) if field not in ("metric", "aggregation", "higher_is_better")}
    parts = [metric, repr(settings), name or "none", repr(_filter_of(config, name)), str(config.get("process_results") or "")]
    return "lm-eval: " + "; ".join(parts)


def lm_eval_reading(config: Mapping[str, Any], key: str) -> Reading | None:
    """The filter of a generating task with the metric exact_match, by lm-eval's own code; None for all others."""
    metric, _, name = key.partition(",")
    steps = _filter_of(config, name)
    if config.get("output_type") != "generate_until" or metric != "exact_match" or config.get("process_results"):
        return None
    if any(step.get("function") == "custom" for step in steps):
        return None
    allowed = ("regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers")
    settings = {field: value for field, value in _metric_of(config, metric).items() if field in allowed}

    def read(answers: Sequence[Answer]) -> list[float | None]:
        from lm_eval.api.instance import Instance
        from lm_eval.api.metrics import exact_match_hf_evaluate
        from lm_eval.filters import build_filter_ensemble

        components = [(step["function"], {field: value for field, value in step.items() if field != "function"} or None) for step in steps]
        asked = [Instance(request_type="generate_until", doc={}, arguments=("", {}), idx=0, resps=[one.reply or ""]) for one in answers]
        build_filter_ensemble(name or "none", components or [("take_first", None)]).apply(asked)
        found: list[float | None] = []
        for one, instance in zip(answers, asked, strict=True):
            reply = instance.filtered_resps[name or "none"]
            reply = reply[0] if isinstance(reply, list) else reply
            if one.reply is None or not one.target:
                found.append(None)
                continue
            result = exact_match_hf_evaluate(predictions=[str(reply)], references=[one.target], **settings)
            found.append(float(result["exact_match"]))
        return found

    return read


def _metric_of(config: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    return next((one for one in config.get("metric_list") or () if one.get("metric") == metric), {})


def _filter_of(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The steps of a filter: what comes after a "take_first" sees one reply."""
    return next((list(one["filter"]) for one in config.get("filter_list") or () if one.get("name") == name), [])

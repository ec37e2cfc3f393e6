"""What the JSON files of folders must hold: which fields there are, and of which type each is.

A folder may have been edited, or come from strangers. Whoever reads a checked file may rely on these types; fields that are not listed here
are not looked at. Which fields there are depends on the version, and on what is asked of a folder: one that is missing is an error where it
is read, in one sentence (`Checked`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from iit_bench.storage.checked import Checked, Each, Fields, Such

Number = int | float


def _is_time(value: str | None) -> bool:
    """Whether a text is a time between 1970 and 9999, or null."""
    try:
        return value is None or datetime.fromisoformat(value).astimezone(UTC).timestamp() >= 0
    except (ValueError, OverflowError, OSError):
        return False


def _are_tiers(names: Any) -> bool:
    return all(re.fullmatch("[TV]+", name) for name in names)


_TIME = Such(str | None, _is_time, "a time in ISO 8601 or null")
_SIZES = Such(dict[str, int], _are_tiers, "an object with a number per tier, whose names are of the letters T and V")
_SOURCES = Each(
    Fields(
        {},
        {
            "modality": str,
            "split": str,
            "origin": str,
            "revision": str,
            "licence": str | None,
            "sha256": str,
            "usable": int,
            "targets": int,
            "targets_by_subject": dict[str, int],
            "in_benchmark": int,
            "answer_counts_from": str,
            "left_out": dict[str, int],
        },
    )
)
_RULES = ("random", "always_first", "majority", "choices_only", "question_prior")
_BASELINES = Each(Fields({}, {"n": int, **dict.fromkeys(_RULES, float | None)}))
_SETTINGS = Fields(
    {},
    {
        "date": str | None,
        "quantization": str | None,
        "chat_template_kwargs": dict[str, Any] | None,
        "reply_delimiter": dict[str, str | None] | None,
        "image_processing": Fields({}, {"processor_kwargs": dict[str, Any] | None}, or_null=True),
    },
    or_null=True,
    plain=True,
)
_MODEL = Fields(
    {},
    {
        "name": str,
        "checkpoint": str | None,
        "checkpoint_sha256": str | None,
        "chat_template_sha256": str | None,
        "accepts_images": bool | None,
        "blind": bool | None,
        "dtype": str | None,
        "device": str | None,
        "max_context": int | None,
        "parameters": int | None,
        "settings": _SETTINGS,
        "details": dict[str, Any],
        "system_prompt": str | None,
    },
)
_BENCHMARK = Fields(
    {},
    {
        "rows_sha256": str,
        "tiers": _SIZES,
        "name": str,
        "seed": int | None,
        "sources": _SOURCES,
        "baselines": _BASELINES,
    },
)
_ENGINE = Fields(
    {},
    {
        "way": Literal["tree", "plain"],
        "ways": dict[str, str],
        "rows": int,
        "batch_tokens": int,
        "row_tokens": int,
        "version": int,
    },
    or_null=True,
)
_USAGE = Fields(
    {},
    {"answers": int, "answers_without_counts": int, "prompt_tokens": int, "reply_tokens": int, "cost": float | None},
    or_null=True,
)
_UNTIL = Fields({"margin": float, "alpha": float, "seed": int, "base_sha256": str, "blocks": tuple[float, ...]}, {}, or_null=True)
# Of the options that a run was started with, those that readers take; `iit-bench eval --from` checks all.
_ARGUMENTS = Fields(
    {},
    {"name": str | None, "bench": str | None, "base": str | None, "engine": str | None, "threads": int | None, "allow_errors": int},
)
_OF_ANY_SUITE = {
    "arguments": _ARGUMENTS,
    "command": str,
    "seconds": float,
    "started": _TIME,
    "ended": _TIME,
    "seed": int | None,
    "tokens": int | None,
    "resumed": int,
    "limit": Number | None,
    "max_new_tokens": int | None,
    "reasoning_tokens": int | None,
    "date": str | None,
    "chat_template_kwargs": dict[str, Any] | None,
    "processor_kwargs": dict[str, Any] | None,
    "adapter": str | None,
    "system_prompt": str | None,
    "batch_size": int | None,
    "engine": _ENGINE,
    "threads": int | None,
    "versions": dict[str, str | None],
    "git_commit": str | None,
    "answers_version": int | None,
    "session": str | None,
    "files": dict[str, str],
    "merged_replies": int | None,
    "unchecked_answers": int | None,
    "logged": Fields({"answers": int, "keys": str}, {}),
    "usage": _USAGE,
    "launch": str | None,
}
_IIT = Fields(
    {},
    {
        **_OF_ANY_SUITE,
        "name": str,
        "suite": Literal["iit"],
        "model": _MODEL,
        "benchmark": _BENCHMARK,
        "scoring": Literal["loglikelihood", "generate"],
        "style": Literal["cloze", "options", "letters"],
        "history": Literal["gold", "own"],
        "tiers": Such(tuple[str, ...], _are_tiers, "a list of tiers, whose names are of the letters T and V"),
        "scoring_fallback": str | None,
        "arm": str | None,
        "left_out": dict[str, int] | None,
        "until": _UNTIL,
        "groups_asked": int | None,
        "batch_tokens": int | None,
    },
)
_TASKS = Fields(
    {},
    {
        "name": str,
        "suite": Literal["text", "vqa"],
        "model": _MODEL,
        "tasks": tuple[str, ...],
        **_OF_ANY_SUITE,
        "judge": str | None,
        "num_fewshot": int | None,
        "apply_chat_template": bool | None,
        "fewshot_as_multiturn": bool | None,
        "gen_kwargs": str | None,
        "data_sha256": dict[str, Any] | None,
        "split_think": bool | None,
    },
)
# Of the arguments of a build, those that readers take; `iit-bench build` compares all.
_OF_BUILDS = Fields({}, {"match": str, "connector": str})
_TURNS = dict[str, tuple[dict[str, int], ...]]
_USE = Each(Fields({}, dict.fromkeys(("cap", "highest", "clusters_above_cap", "clusters", "questions"), int)))


def _has_tables(files: Mapping[str, str]) -> bool:
    return all(any(name.startswith(f"{table}/") for name in files) for table in ("questions", "dialogues"))


MANIFEST = Fields(
    {"files": Such(dict[str, str], _has_tables, "an object with the sha256 of tables in questions/ and dialogues/"), "rows_sha256": str},
    {
        "name": str,
        "seed": int | None,
        "arguments": _OF_BUILDS,
        "default_style": Literal["cloze", "options", "letters"],
        "tiers": Such(dict[str, int], lambda sizes: bool(sizes) and _are_tiers(sizes), f"{_SIZES.words}, and at least one"),
        "targets": dict[str, int],
        "questions": dict[str, int],
        "sources": _SOURCES,
        "baselines": _BASELINES,
        "answer_counts": dict[str, int] | None,
        "versions": dict[str, Any],
        "prefix_choices": int,
        "history_use": _USE,
        "history_turns": _TURNS,
    },
)
# training.json of a trained model, as far as it is read.
CARD = Fields(
    {},
    {
        "files": dict[str, str],
        "weights_sha256": str,
        "seconds": dict[str, float],
        "scores": dict[str, dict[str, dict[str, Any]]],
    },
)
ERROR = Fields(
    {"kind": str, "reason": str, "detail": str},
    {"dialogue": str | None, "position": int | None, "tier": str | None, "question": str | None, "task": str | None, "item": str | None},
)


def check_run(header: Mapping[str, Any], where: str, fix: str) -> Checked:
    """Return the content of a run.json, unless a field has another type.

    Args:
        header: its content.
        where: the file, for the error.
        fix: what to do, the sentence's end.

    Raises:
        UserError: naming the field.
    """
    fields = _IIT if header.get("suite", "iit") == "iit" else _TASKS
    if header.get("tool"):  # a run of another tool, inside a log that was made of it; its times may not be known
        fields = Fields(fields.required, {**fields.more, "seconds": float | None})
    return fields.check(header, where, fix)

"""What the JSON files of folders must hold: which fields there are, and of which type each is.

A folder may have been edited, or come from strangers. Whoever reads a checked file may rely on these types; fields that are not listed here
are not looked at. Which fields there are depends on the version, and on what is asked of a folder: one that is missing is an error where it
is read, in one sentence (`Checked`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from iit_bench.errors import UserError
from iit_bench.storage.tables import WrongField, decode


class Checked(dict[str, Any]):
    """A JSON object whose reader gets one sentence, with the file and the field, where a field is not there.

    Attributes:
        where: the file, and the place in it.
        fix: what to do, the sentence's end.
    """

    def __init__(self, content: Mapping[str, Any], where: str, fix: str) -> None:
        super().__init__(content)
        self.where, self.fix = where, fix

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.where} lacks the field {name!r}; {self.fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Checked, (dict(self), self.where, self.fix)


Named = dict[str, dict[str, Any]]
Number = int | float


@dataclass(frozen=True)
class Fields:
    """Fields of a JSON object by name: `required` ones are always there, `more` may be missing; of each its type."""

    required: Mapping[str, Any]
    more: Mapping[str, Any]

    def check(self, value: Any, where: str, fix: str) -> Checked:
        """Return an object, unless it lacks a field that is required or one has another type.

        Args:
            value: the JSON value.
            where: the file, for the error.
            fix: what to do, the sentence's end.

        Raises:
            UserError: naming the field.
        """
        try:
            self._check(value, "")
        except WrongField as error:
            raise UserError(f"{where}: {error}; {fix}") from error
        return self._wrapped(value, where, fix)

    def _wrapped(self, value: Mapping[str, Any], where: str, fix: str) -> Checked:
        parts = {name: kind for name, kind in {**self.required, **self.more}.items() if isinstance(kind, Fields) and name in value}
        inside = {name: kind._wrapped(value[name], f"{where}, {name!r},", fix) for name, kind in parts.items()}
        return Checked({**value, **inside}, where, fix)

    def _check(self, value: Any, inside: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongField(inside, value, "an object")
        for name, kind in {**self.required, **self.more}.items():
            place = f"{inside}.{name}" if inside else name
            if name not in value:
                if name in self.required:
                    raise WrongField(place)
            elif isinstance(kind, Fields):
                kind._check(value[name], place)
            else:
                decode(kind, value[name], place)


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
        "settings": dict[str, Any] | None,
        "details": dict[str, Any] | None,
        "system_prompt": str | None,
    },
)
_BENCHMARK = Fields(
    {},
    {
        "rows_sha256": str,
        "tiers": dict[str, int],
        "name": str,
        "seed": int | None,
        "sources": Named,
        "baselines": dict[str, dict[str, Any] | None],
    },
)
# Of the options that a run was started with, those that readers take; `iit-bench eval --from` checks all.
_ARGUMENTS = Fields(
    {},
    {"name": str | None, "bench": str | None, "base": str | None, "engine": str | None, "threads": int | None, "allow_errors": int | None},
)
_OF_ANY_SUITE = {
    "arguments": _ARGUMENTS,
    "command": str,
    "seconds": float | None,
    "started": str | None,
    "ended": str | None,
    "seed": int | None,
    "tokens": int | None,
    "resumed": int | None,
    "limit": Number | None,
    "max_new_tokens": int | None,
    "reasoning_tokens": int | None,
    "date": str | None,
    "chat_template_kwargs": dict[str, Any] | None,
    "processor_kwargs": dict[str, Any] | None,
    "adapter": str | None,
    "system_prompt": str | None,
    "batch_size": int | None,
    "engine": dict[str, Any] | None,
    "threads": int | None,
    "versions": dict[str, Any] | None,
    "git_commit": str | None,
    "answers_version": int | None,
    "session": str | None,
    "files": dict[str, str],
    "merged_replies": int | None,
    "unchecked_answers": int | None,
    "logged": Fields({"answers": int, "keys": str}, {}),
    "usage": dict[str, Any] | None,
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
        "tiers": tuple[str, ...],
        "scoring_fallback": str | None,
        "arm": str | None,
        "left_out": dict[str, int] | None,
        "until": dict[str, Any] | None,
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
MANIFEST = Fields(
    {"files": dict[str, str], "rows_sha256": str},
    {
        "name": str,
        "seed": int | None,
        "arguments": dict[str, Any],
        "default_style": Literal["cloze", "options", "letters"],
        "tiers": dict[str, int],
        "targets": dict[str, int],
        "questions": dict[str, int],
        "sources": Named,
        "baselines": dict[str, dict[str, Any] | None],
        "answer_counts": dict[str, int] | None,
        "versions": dict[str, Any],
        "prefix_choices": int,
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
    return (_IIT if header.get("suite", "iit") == "iit" else _TASKS).check(header, where, fix)

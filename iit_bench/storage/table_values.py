"""What the columns of our tables may hold: values that no record has are refused with file, column and row.

A hash tells that a file is the one that was written; these checks tell, of any table, that what it holds can be true. They work on whole
columns, 100,000 predictions in some hundredths of a second. pyarrow is imported inside functions, so that the command line starts quickly.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from iit_bench.errors import UserError, described
from iit_bench.types import KINDS, OUTCOMES, Modality

HIGHEST_LOGPROB = 0.01  # that a sum of token log-probabilities can have: 0, and what rounding adds
Bools = NDArray[np.bool_]
_TIER = re.compile("[TV]+")
_SHA256 = re.compile("[0-9a-f]{64}")
# Record -> the fields that no two rows have alike.
KEYS: dict[str, tuple[str, ...]] = {
    "Question": ("id",),
    "Dialogue": ("id",),
    "Prediction": ("dialogue", "position"),
    "SeenPrompt": ("dialogue", "position"),
    "TaskItem": ("task", "item", "metric"),
    "ObservedDialogue": ("dialogue",),
    "Item": ("item", "tier"),
}


@dataclass(frozen=True)
class Rule:
    """What holds of every row."""

    columns: tuple[str, ...]  # the one that is named first; checked where all are read
    words: str  # what the first must be
    broken: Callable[..., Bools]  # of the columns, as pyarrow arrays: the rows where it does not hold


def check_values(kind: type, columns: Mapping[str, Any], path: Path, first: int = 0) -> None:
    """Refuse values that no record of a kind has.

    Args:
        kind: the record.
        columns: of rows that follow one another, as pyarrow arrays, by name.
        path: of the table, for the message.
        first: row of the table, counted from 0, that these begin with.

    Raises:
        UserError: a column has another type, a null, text that is no UTF-8 or a number that is not finite, or breaks a rule of the record.
    """
    hints = typing.get_type_hints(kind)
    for name, column in columns.items():
        _check_type(hints[name], name, column, path, first)
    for rule in _RULES.get(kind.__name__, ()):
        if all(name in columns for name in rule.columns):
            rows = np.flatnonzero(rule.broken(*(columns[name] for name in rule.columns)))
            if len(rows):
                raise _refused(path, rule.columns[0], first + int(rows[0]), columns[rule.columns[0]], int(rows[0]), rule.words)


def check_keys(kind: type, rows: Iterable[Sequence[Any]], path: Path) -> None:
    """Refuse a table in which two rows have the same key.

    Args:
        kind: the record.
        rows: of the whole table, the values of the record's `KEYS`.
        path: of the table, for the message.

    Raises:
        UserError: two rows have the same key.
    """
    seen: set[tuple[Any, ...]] = set()
    for row, key in enumerate(map(tuple, rows)):
        if key in seen:
            names = KEYS[kind.__name__]
            words = ", ".join(f"{name} {value!r}"[:120] for name, value in zip(names, key, strict=True))
            raise UserError(f"{str(path)!r}, row {row} (from 0): {words} occurs in a row before; make the folder again")
        seen.add(key)


def _refused(path: Path, name: str, row: int, column: Any, place: int, words: str) -> UserError:
    shown = repr(column[place].as_py())
    shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
    return UserError(f"{str(path)!r}, column {name!r}, row {row} (from 0): {shown}, which must be {words}; make the folder again")


# ---------------------------------------------------------------- what a column of a type holds


def _check_type(hint: Any, name: str, column: Any, path: Path, first: int) -> None:
    import pyarrow as pa

    wanted, found = _wanted(hint), _family(column.type)
    if wanted != found:
        raise UserError(f"{str(path)!r}, column {name!r}: it holds {found} and must hold {wanted}; make the folder again")
    inner = column.flatten() if wanted.startswith("lists") else None
    for part in (column,) if inner is None else (column, inner):
        if part.null_count:
            place = int(np.flatnonzero(part.is_null().to_numpy(zero_copy_only=False))[0])
            raise _refused(path, name, first + (row := _row(column, place, part is inner)), column, row, "no null")
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        raise UserError(f"{str(path)!r}, column {name!r}: it is damaged ({described(error)}); make the folder again") from error
    if wanted.endswith("numbers") and "whole" not in wanted:
        values = (column if inner is None else inner).to_numpy(zero_copy_only=False)
        if len(odd := np.flatnonzero(~np.isfinite(values))):
            row = _row(column, int(odd[0]), inner is not None)
            raise _refused(path, name, first + row, column, row, "finite")


def _wanted(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"lists of {_WORDS.get(get_args(hint)[0], 'images')}"
    return _WORDS.get(hint, "texts")  # Literals are texts


_WORDS: dict[Any, str] = {str: "texts", int: "whole numbers", float: "numbers", bool: "true and false"}


def _family(kind: Any) -> str:
    """What a column of an arrow type holds, however wide its numbers or offsets are."""
    import pyarrow as pa

    is_one = pa.types
    if is_one.is_list(kind) or is_one.is_large_list(kind):
        return f"lists of {_family(kind.value_type)}"
    if is_one.is_struct(kind):
        return "images" if {one.name for one in kind} == {"bytes", "path"} else str(kind)
    named = {is_one.is_string: "texts", is_one.is_large_string: "texts", is_one.is_integer: "whole numbers"}
    named |= {is_one.is_floating: "numbers", is_one.is_boolean: "true and false"}
    return next((words for of_it, words in named.items() if of_it(kind)), str(kind))


def _row(column: Any, place: int, inside: bool) -> int:
    """The row of a value; of one inside of lists, by its place among the values of all lists."""
    return int(_owners(column)[place]) if inside else place


# ---------------------------------------------------------------- columns as numpy


def _numbers(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _sizes(column: Any) -> NDArray[Any]:
    """The length of each list."""
    return _numbers(column.value_lengths())


def _lengths(column: Any) -> NDArray[Any]:
    """The length of each text, in characters."""
    import pyarrow.compute as pc

    return _numbers(pc.utf8_length(column))


def _owners(column: Any) -> NDArray[Any]:
    """The row of each value in lists."""
    sizes = _sizes(column)
    return np.repeat(np.arange(len(sizes)), sizes)


def _rows_with(column: Any, odd: Bools) -> Bools:
    """The rows some value of whose list is odd."""
    return np.bincount(_owners(column)[odd], minlength=len(column)) > 0


def _other_than(holds: Callable[[str], Any]) -> Callable[[Any], Bools]:
    """Rows whose text is none of the allowed ones; each text is looked at once."""

    def broken(column: Any) -> Bools:
        encoded = column.dictionary_encode()
        odd = np.array([not holds(word) for word in encoded.dictionary.to_pylist()], dtype=np.bool_)
        return odd[_numbers(encoded.indices)] if len(odd) else np.zeros(0, dtype=np.bool_)

    return broken


def _below(column: Any, lists: Any, least: int) -> Bools:
    """Rows whose number is not an index of their list; `least` -1 takes -1 for none."""
    values = _numbers(column)
    return (values < least) | (values >= _sizes(lists))


def _listed_below(column: Any, lists: Any) -> Bools:
    values = _numbers(column.flatten())
    return _rows_with(column, (values < -1) | (values >= _sizes(lists)[_owners(column)]))


def _none_or_all(column: Any, lists: Any) -> Bools:
    sizes = _sizes(column)
    return (sizes != 0) & (sizes != _sizes(lists))


def _negative(column: Any) -> Bools:
    return _numbers(column) < 0


def _outside(low: float, high: float) -> Callable[[Any], Bools]:
    """Rows with a value of their list that is below `low` or above `high`."""

    def broken(column: Any) -> Bools:
        values = _numbers(column.flatten())
        return _rows_with(column, (values < low) | (values > high))

    return broken


# ---------------------------------------------------------------- the rules


def _answer_is_not(texts: Any, choices: Any, answer: Any) -> Bools:
    """Rows whose text is not the choice with that index, which is one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    starts = np.cumsum(_sizes(choices)) - _sizes(choices)
    return ~_numbers(pc.equal(choices.flatten().take(pa.array(starts + _numbers(answer))), texts)).astype(np.bool_)


def _last_is_not(texts: Any, lists: Any) -> Bools:
    import pyarrow as pa

    return _answer_is_not(texts, lists, pa.array(_sizes(lists) - 1))


def _correct_elsewhere(outcome: Any, chosen: Any, answer: Any) -> Bools:
    import pyarrow.compute as pc

    return _numbers(pc.equal(outcome, "correct")).astype(np.bool_) != (_numbers(chosen) == _numbers(answer))


def _margin_of_the_other(correct: Any, margin: Any) -> Bools:
    right, by = _numbers(correct).astype(np.bool_), _numbers(margin)
    return (right & (by < 0)) | (~right & (by > 0))


def _marks_beyond(places: Any, prompt: Any) -> Bools:
    values = _numbers(places.flatten())
    return _rows_with(places, (values < 0) | (values >= _lengths(prompt)[_owners(places)]))


_TIERS = Rule(("tier",), "a pattern of T and V", _other_than(_TIER.fullmatch))
_TURN = Rule(("position", "tier"), "a turn of its tier", lambda column, tier: _negative(column) | (_numbers(column) >= _lengths(tier)))
_MODALITY = Rule(("modality",), "T or V", _other_than(get_args(Modality).__contains__))
_CHOICES = Rule(("choices",), "two choices or more", lambda column: _sizes(column) < 2)
_ANSWER = Rule(("answer", "choices"), "the index of a choice", lambda column, choices: _below(column, choices, 0))
_OUTCOMES = Rule(("outcome",), " or ".join(OUTCOMES), _other_than(OUTCOMES.__contains__))
_POSITIONS = Rule(("position",), "0 or more", _negative)
_WEIGHT = _outside(0.0, 1.001)  # of attention or a router, with what rounding adds
_OF_KINDS = tuple(KINDS)

_RULES: dict[str, tuple[Rule, ...]] = {
    "Prediction": (
        _TIERS,
        _MODALITY,
        _OUTCOMES,
        _POSITIONS,
        _TURN,
        _CHOICES,
        _ANSWER,
        *(
            Rule((name, "choices"), "the index of a choice, or -1", lambda column, choices: _below(column, choices, -1))
            for name in ("chosen", "chosen_norm", "chosen_bytes")
        ),
        Rule(("outcome", "chosen", "answer"), "correct exactly where the chosen choice is the answer", _correct_elsewhere),
        Rule(("logprobs", "choices"), "one log-probability per choice, or none", _none_or_all),
        Rule(("logprobs",), "log-probabilities, which are not above 0", _outside(-np.inf, HIGHEST_LOGPROB)),
        Rule(("choice_tokens", "choices"), "one number per choice, or none", _none_or_all),
        Rule(("choice_tokens",), "0 or more", _outside(0, np.inf)),
        *(Rule((name,), "0 or more", _negative) for name in ("prompt_tokens", "reply_tokens", "reasoning_tokens")),
        Rule(("moved_choices", "choices"), "indices of choices, or -1", _listed_below),
        Rule(("history_clusters", "tier"), "fewer than the turns of its tier", lambda column, tier: _sizes(column) >= _lengths(tier)),
    ),
    "SeenPrompt": (
        _POSITIONS,
        Rule(("image_places", "prompt"), "places in the prompt", _marks_beyond),
        Rule(("sha256",), "64 hexadecimal digits", _other_than(_SHA256.fullmatch)),
    ),
    "TaskItem": (_OUTCOMES,),
    "Item": (  # of a cell of the experiment (lab.cells)
        _TIERS,
        Rule(("correct", "margin"), "true where the margin is above 0, false where it is below", _margin_of_the_other),
    ),
    "Question": (
        _MODALITY,
        _CHOICES,
        _ANSWER,
        Rule(("answer_text", "choices", "answer"), "the choice that is the answer", _answer_is_not),
    ),
    "Dialogue": (
        _TIERS,
        Rule(("turns", "tier"), "a question per turn of its tier", lambda column, tier: _sizes(column) != _lengths(tier)),
        Rule(("target", "turns"), "the last turn", _last_is_not),
        Rule(("connectors", "turns"), "one per turn, or none", _none_or_all),
    ),
    "ObservedDialogue": (
        _TIERS,
        *(Rule((f"n_{kind}",), "0 or more", _negative) for kind in _OF_KINDS),
        *(Rule((name,), "indices of layers", _outside(0, np.inf)) for name in ("layers", "router_layers")),
        *(Rule((f"{a}{kind}", f"{a}layers"), "one per layer, or none", _none_or_all) for a in ("", "router_") for kind in _OF_KINDS),
        *(Rule((f"{a}{kind}",), "weights from 0 to 1", _WEIGHT) for a in ("", "router_") for kind in _OF_KINDS),
    ),
}


def key_of(kind: type) -> tuple[str, ...]:
    """The fields that tell the rows of a record's table from each other; () where two rows may be equal."""
    names = KEYS.get(kind.__name__, ())
    return names if {field.name for field in dataclasses.fields(kind)} >= set(names) else ()

"""Scored turns as columns: what figures are made of, for a million predictions without a million objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.statistics import HistoryCodes, Ints, codes
from iit_bench.errors import UserError, one_line
from iit_bench.storage.runs import IitRun
from iit_bench.types import OUTCOMES, Prediction

Bools = NDArray[np.bool_]
Codes = NDArray[np.int32]  # half the memory of `Ints`; to be widened before two are multiplied
Metric = Literal["acc", "acc_norm", "acc_bytes"]
METRICS: tuple[Metric, ...] = ("acc", "acc_norm", "acc_bytes")

_NAMED = ("dialogue", "tier", "group", "question", "source", "subject", "cluster", "outcome")
_NUMBERS = ("position", "is_target", "answer", "chosen_norm", "chosen_bytes")


@dataclass(frozen=True, eq=False)
class Names:
    """A column of words: `names[code[i]]` is the word of row i."""

    names: Sequence[str]  # each once
    code: Codes  # [n]

    @classmethod
    def of(cls, words: Iterable[str]) -> Names:
        """From the words of all rows."""
        seen: dict[str, int] = {}
        code = np.array([seen.setdefault(word, len(seen)) for word in words], dtype=np.int32)
        return cls(tuple(seen), code)

    def sorted(self) -> Names:
        """The same column with its words in order, so that columns of the same words have equal `names`."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return Names(tuple(self.names[i] for i in order), rank[self.code])

    def take(self, rows: Ints) -> Names:
        """The column of `rows`."""
        return Names(self.names, self.code[rows])


def codes_among(names: Sequence[str], others: Sequence[str]) -> Ints:
    """For each of `names` its place among `others`, each of which is there once; new words get places after them."""
    if names == others:
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(others)}
    return np.array([place.setdefault(name, len(place)) for name in names], dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Turns:
    """The scored turns of a run, n rows in the order of dialogue and position, so that no figure depends on the order they were made in."""

    dialogue: Names  # Dialogue.id
    position: Codes
    is_target: Bools
    tier: Names
    group: Names
    question: Names
    source: Names
    subject: Names
    cluster: Names
    asked: Names  # the choices in their order, as one text
    answer: Codes  # index of the right one
    n_choices: Codes
    outcome: Codes  # index in OUTCOMES
    acc: Bools  # right by each metric; unparsed and failed turns are not
    acc_norm: Bools
    acc_bytes: Bools
    row: Codes  # of the table or list that they were made from
    history_names: Sequence[str]  # what the codes of `histories` mean
    histories: HistoryCodes  # cluster of each turn before this one

    def __len__(self) -> int:
        return len(self.position)

    @property
    def finished(self) -> Bools:
        """Whether a turn has an answer, right, wrong or unparsed; failed ones have none. [n]"""
        return self.outcome != OUTCOMES.index("error")

    @property
    def chance(self) -> NDArray[np.float64]:
        """Probability, 0 … 1, of the right answer for a uniform guess among the turn's k choices: 1/k. [n]"""
        return 1 / self.n_choices

    def right(self, metric: Metric) -> Bools:
        """Whether a turn's answer is right by a metric. [n]"""
        by_metric: dict[Metric, Bools] = {"acc": self.acc, "acc_norm": self.acc_norm, "acc_bytes": self.acc_bytes}
        return by_metric[metric]

    def take(self, rows: Any) -> Turns:
        """The turns of `rows`, which are indices in the order that is wanted, or true and false per row; of all rows, these turns."""
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == np.bool_ else np.asarray(rows, dtype=np.int64)
        if len(index) == len(self) and np.array_equal(index, np.arange(len(self))):
            return self
        made: dict[str, Any] = {"history_names": self.history_names}
        for field in fields(self):
            if field.name != "history_names":
                column = getattr(self, field.name)
                made[field.name] = column[index] if isinstance(column, np.ndarray) else column.take(index)
        return Turns(**made)

    @classmethod
    def concat(cls, parts: Sequence[Turns]) -> Turns:
        """The turns of `parts`, one or more, all taken from the same turns, one part after the other."""
        made: dict[str, Any] = {"history_names": parts[0].history_names}
        for field in fields(cls):
            columns = [getattr(part, field.name) for part in parts]
            if isinstance(columns[0], Names):
                made[field.name] = Names(columns[0].names, np.concatenate([one.code for one in columns]))
            elif isinstance(columns[0], HistoryCodes):
                sizes, code = (np.concatenate([getattr(one, name) for one in columns]) for name in ("sizes", "code"))
                made[field.name] = HistoryCodes.of_sizes(sizes, code)
            elif field.name != "history_names":
                made[field.name] = np.concatenate(columns)
        return cls(**made)

    def by(self, *columns: Names) -> dict[tuple[str, ...], Ints]:
        """Rows by the words they have in `columns` of these turns, each part in its order."""
        key = np.zeros(len(self), dtype=np.int64)
        for column in columns:
            key = codes(key * max(1, len(column.names)) + column.code)
        order = np.argsort(key, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(order) else []
        return {tuple(column.names[column.code[part[0]]] for column in columns): part for part in parts}

    def by_tier(self) -> dict[str, Ints]:
        """Rows by tier."""
        return {tier: rows for (tier,), rows in self.by(self.tier).items()}

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> Turns:
        """From predictions in any order.

        Raises:
            ValueError: a turn occurs twice.
        """
        rows = list(predictions)
        histories = Names.of(label for p in rows for label in p.history_clusters)
        return _made(
            {name: Names.of(getattr(p, name) for p in rows) for name in _NAMED},
            {name: np.array([getattr(p, name) for p in rows], dtype=np.int32) for name in _NUMBERS},
            choices=Names.of(_spelt(p.choices) for p in rows),
            n_choices=np.array([len(p.choices) for p in rows], dtype=np.int32),
            history_names=histories.names,
            histories=_histories(np.array([len(p.history_clusters) for p in rows], dtype=np.int64), histories),
        )

    @classmethod
    def of_run(cls, run: IitRun) -> Turns:
        """From the table of a run folder, without an object per prediction; read once.

        Raises:
            UserError: the table cannot be read, has numbers that no prediction has, or a turn twice.
        """
        if "turns" in run.kept:
            known: Turns = run.kept["turns"]
            return known
        made = _Made()
        try:
            for batch in run.prediction_batches((*_NAMED, *_NUMBERS, "choices", "history_clusters")):
                made.add(batch)
            turns = run.kept["turns"] = made.turns()
            return turns
        except (OverflowError, ValueError) as error:  # a number that no prediction has, a turn twice
            raise UserError(
                f"the predictions of run {str(run.path)!r} are damaged ({one_line(error)}); evaluate it again with --fresh"
            ) from error


def turns(predictions: Turns | Iterable[Prediction]) -> Turns:
    """Predictions as columns; columns as they are."""
    return predictions if isinstance(predictions, Turns) else Turns.of(predictions)


def _made(
    named: dict[str, Names],
    numbers: dict[str, Codes],
    *,
    choices: Names,
    n_choices: Codes,
    history_names: Sequence[str],
    histories: HistoryCodes,
) -> Turns:
    """The turns in their order."""
    outcome = named.pop("outcome")
    place = np.array([OUTCOMES.index(name) for name in outcome.names], dtype=np.int32)  # type: ignore[arg-type]
    dialogue = named["dialogue"] = named["dialogue"].sorted()
    answer, position = numbers["answer"], numbers["position"]
    made = Turns(
        **named,
        position=position,
        is_target=numbers["is_target"].astype(np.bool_),
        asked=choices,
        answer=answer,
        n_choices=n_choices,
        outcome=place[outcome.code] if len(outcome.code) else outcome.code,
        acc=outcome.code == (outcome.names.index("correct") if "correct" in outcome.names else -1),
        acc_norm=numbers["chosen_norm"] == answer,
        acc_bytes=numbers["chosen_bytes"] == answer,
        row=np.arange(len(answer), dtype=np.int32),
        history_names=history_names,
        histories=histories,
    )
    order = np.lexsort((position, dialogue.code))
    same = (np.diff(dialogue.code[order]) == 0) & (np.diff(position[order]) == 0)
    if len(twice := np.flatnonzero(same)):
        row = order[twice[0]]
        raise ValueError(f"turn {position[row]} of dialogue {dialogue.names[dialogue.code[row]]!r} occurs twice")
    return made.take(order)


def _histories(sizes: Ints, names: Names) -> HistoryCodes:
    return HistoryCodes.of_sizes(sizes, names.code.astype(np.int64))


def _spelt(choices: Sequence[str]) -> str:
    """One text per sequence of choices: the lengths, then the texts."""
    return f"{','.join(str(len(choice)) for choice in choices)}|{''.join(choices)}"


# ---------------------------------------------------------------- from pyarrow


class _Made:
    """Turns that are made of a table part by part."""

    def __init__(self) -> None:
        self._named: dict[str, _Words] = {name: _Words() for name in (*_NAMED, "choices", "history_clusters")}
        self._numbers: dict[str, list[Codes]] = {name: [] for name in (*_NUMBERS, "n_choices", "n_histories")}

    def add(self, batch: Mapping[str, Any]) -> None:
        """Append rows; tables of version 1 do not name histories."""
        choices, histories = batch["choices"], batch.get("history_clusters")
        for name in _NAMED:
            self._named[name].add(batch[name])
        self._named["choices"].add(_spelt_column(choices))
        columns = {name: batch[name] for name in _NUMBERS} | {"n_choices": choices.value_lengths()}
        if histories is not None:
            self._named["history_clusters"].add(histories.flatten())
            columns["n_histories"] = histories.value_lengths()
        for name, column in columns.items():
            self._numbers[name].append(_numbers(column))
        if histories is None:
            self._numbers["n_histories"].append(np.zeros(len(choices), dtype=np.int32))

    def turns(self) -> Turns:
        """The turns of all rows; to be asked for once.

        Raises:
            ValueError: a turn occurs twice.
        """
        named = {name: self._named.pop(name).names() for name in tuple(self._named)}  # each column is freed once it is copied
        numbers = {name: np.concatenate(self._numbers.pop(name)) for name in tuple(self._numbers)}
        choices, histories = named.pop("choices"), named.pop("history_clusters")
        n_choices, sizes = numbers.pop("n_choices"), numbers.pop("n_histories")
        return _made(
            named,
            numbers,
            choices=choices,
            n_choices=n_choices,
            history_names=histories.names,
            histories=_histories(sizes.astype(np.int64), histories),
        )


class _Words:
    """A column of words that grows: each word is made once."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._parts: list[Codes] = [np.zeros(0, dtype=np.int32)]

    def add(self, column: Any) -> None:
        """Append the words of an array."""
        encoded = column.dictionary_encode()
        known = self._place
        place = np.array([known.setdefault(word, len(known)) for word in encoded.dictionary.to_pylist()], dtype=np.int32)
        code = _numbers(encoded.indices)
        self._parts.append(place[code] if len(place) else code)

    def names(self) -> Names:
        """The column."""
        return Names(tuple(self._place), np.concatenate(self._parts))


def _numbers(column: Any) -> Codes:
    """Raises OverflowError for a number that takes more than 32 bits."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
    if len(beyond := values[values != values.astype(np.int32)]):
        raise OverflowError(f"the number {beyond[0]} is in it")
    return values.astype(np.int32)


def _spelt_column(choices: Any) -> Any:
    """`_spelt` of every row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = choices.flatten()
    offsets = pa.array(np.concatenate([[0], np.cumsum(_numbers(choices.value_lengths()))]), type=pa.int32())
    lengths = pa.ListArray.from_arrays(offsets, pc.utf8_length(words).cast(pa.string()))
    return pc.binary_join_element_wise(pc.binary_join(lengths, ","), pc.binary_join(choices, ""), "|")

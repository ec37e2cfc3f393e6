"""Chats of several sources by weight: a step's chats depend on the recipe and the step's number only.

Each source has its share of every step, up to one chat. The chats of a file come in an order of their own for each pass over it (epoch), so
that none comes twice before all came once. Chats of the lab's sources are drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iit_bench.errors import ItemError, UserError
from iit_bench.terminal import write
from iit_bench.training import chat, dialogues, sources
from iit_bench.training.chats import checking
from iit_bench.training.chats.checking import Checked, Report
from iit_bench.training.chats.hub import HUB
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.records import LAB, Dialogues
from iit_bench.types import Question

HELD_OUT = 64  # rows of a validation loss, over all sources; of a file at most one chat in twenty
_COUNTS, _DRAWN, _ORDER, _HELD_OUT = 11, 12, 13, 14  # kinds of random numbers, for their generators


class Mixture:
    """The chats of every step.

    Attributes:
        report: the check of its files.
    """

    def __init__(self, data: Dialogues, encoding: Encoding, seed: int, batch: int, opened: Sequence[Source], report: Report) -> None:
        self._data, self._encoding, self._seed, self._batch, self.report = data, encoding, seed, batch, report
        ends = np.cumsum([part.weight for part in data.mixture])
        self._ends = ends / ends[-1]
        self._sums = [np.zeros(len(data.mixture), dtype=np.int64)]  # chats of each source before step 0, 1, …
        most = HELD_OUT // len(data.mixture)
        files = iter(zip(opened, report.parts, strict=True))
        self._sources = [
            _Lab(part.source.removeprefix(LAB), data, encoding, most)
            if part.source.startswith(LAB)
            else _File(*next(files), seed=[seed, place], most=most)
            for place, part in enumerate(data.mixture)
        ]

    @classmethod
    def checked(cls, data: Dialogues, encoding: Encoding, seed: int, batch: int, folder: Path | None = None, show: bool = False) -> Mixture:
        """A mixture whose files have been checked.

        Args:
            data: the recipe's, with a mixture.
            encoding: of the model that is trained.
            seed: the recipe's.
            batch: chats of a step.
            folder: of the training; see `checking.check`.
            show: progress bars, the table of the check where records are refused, and the sources of which nothing is held out.

        Raises:
            UserError: a file is missing or damaged, or more of its records are refused than `data` allows.
        """
        report, opened = checking.check(data, encoding, folder, show)
        if show and any(part.numbers for part in report.parts):
            checking.show(report)
        checking.refuse(report, data)
        mixture = cls(data, encoding, seed, batch, opened, report)
        if show and (note := mixture.note()):
            write(note, file=sys.stderr, flush=True)
        return mixture

    def rows(self, step: int) -> list[chat.Row]:
        """The chats of a step, source by source."""
        rng = dialogues.generator(self._seed, step, _DRAWN)
        before, counts = self._before(step), self.counts(step)
        rows: list[chat.Row] = []
        for source, first, count in zip(self._sources, before, counts, strict=True):
            rows += source.rows(int(first), int(count), rng)
        return rows

    @property
    def has_images(self) -> bool:
        """Whether there is an image in any chat."""
        return any(part.images for part in self.report.parts) or any(
            source.has_images for source in self._sources if isinstance(source, _Lab)
        )

    def held_out(self) -> list[chat.Row]:
        """Chats that no step trains on."""
        return [row for source in self._sources for row in source.held_out()]

    def held_out_sources(self) -> list[dict[str, Any]]:
        """How many of these chats are of each source: `source`, of a file its name, and `rows`."""
        named = [part.source if part.source.startswith(HUB) else Path(part.source).name for part in self._data.mixture]
        return [{"source": name, "rows": source.held} for name, source in zip(named, self._sources, strict=True)]

    def note(self) -> str:
        """Of which sources the validation loss says nothing, as a sentence; empty if it is of all."""
        with_rows, without = ([one["source"] for one in self.held_out_sources() if (one["rows"] > 0) is held] for held in (True, False))
        if not without:
            return ""
        rest = f"the validation loss is of {', '.join(with_rows)} only" if with_rows else "there is no validation loss"
        return (
            f"nothing is held out of {', '.join(without)}, so {rest}: a file holds out one chat in twenty, if it has as many, "
            f"a source that is drawn anew nothing, and all together {HELD_OUT} at most"
        )

    def counts(self, step: int) -> np.ndarray:
        """How many chats of a step are of each source, int64 [sources]: its share, rounded up or down by one random number."""
        cuts = np.floor(self._batch * self._ends + dialogues.generator(self._seed, step, _COUNTS).random()).astype(np.int64)
        cuts[-1] = self._batch
        return np.diff(cuts, prepend=0)

    def _before(self, step: int) -> np.ndarray:
        while len(self._sums) <= step:
            self._sums.append(self._sums[-1] + self.counts(len(self._sums) - 1))
        return self._sums[step]


class _File:
    """The chats of one file, or of a folder of files."""

    def __init__(self, source: Source, checked: Checked, seed: Sequence[int], most: int) -> None:
        self._source, self._seed = source, seed
        usable = np.setdiff1d(np.arange(checked.records), np.array(checked.numbers, dtype=np.int64))
        shuffled = np.random.default_rng([*seed, _HELD_OUT]).permutation(usable)
        held = min(most, len(usable) // 20)
        self.held = held  # how many
        self._held, self._trained = np.sort(shuffled[:held]), np.sort(shuffled[held:])
        self._epoch, self._order = -1, self._trained

    def rows(self, first: int, count: int, rng: np.random.Generator) -> list[chat.Row]:
        """The chats from the `first` that is trained on; none is drawn.

        Raises:
            UserError: a file is gone since the check.
        """
        return [self._row(self._number(nth)) for nth in range(first, first + count)]

    def held_out(self) -> list[chat.Row]:
        """Chats that are not trained on."""
        return [self._row(int(number)) for number in self._held]

    def _row(self, number: int) -> chat.Row:
        try:
            return self._source.row(number)
        except ItemError as error:
            name = self._source.records.name(number)
            raise UserError(f"{name}: {error}, though it was there when it was checked; put it back and resume") from None

    def _number(self, nth: int) -> int:
        """The record that is trained on as the `nth`."""
        epoch, place = divmod(nth, len(self._trained))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([*self._seed, _ORDER, epoch]).permutation(self._trained)
        return int(self._order[place])


class _Lab:
    """Dialogues of one of the lab's sources."""

    def __init__(self, name: str, data: Dialogues, encoding: Encoding, most: int) -> None:
        self._name, self._data, self._encoding, self._most = name, data, encoding, most
        self._draw = dialogues.mixed({name: 1.0})
        self.held = len(self._held_out())
        self.has_images = any(question.images for question in sources.questions([name], "dev", 1))

    def rows(self, first: int, count: int, rng: np.random.Generator) -> list[chat.Row]:
        """Dialogues of equal length."""
        length = int(rng.choice(self._data.turns))
        return [self._row(dialogues.one(self._draw, self._data, length, rng)) for _ in range(count)]

    def held_out(self) -> list[chat.Row]:
        """Questions of dev."""
        return [self._row([question]) for question in self._held_out()]

    def _held_out(self) -> list[Question]:
        return sources.questions([self._name], "dev", self._most)

    def _row(self, dialogue: Sequence[Question]) -> chat.Row:
        return chat.encode(self._encoding.tokenizer, chat.messages(dialogue), self._encoding.image_tokens)

"""`iit-bench show` and `iit-bench diff`: chosen answers of a run, or of two runs where their outcomes differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.iit.comparison import stopped_early
from evaluators.runs.benchmarks import benchmark_of
from evaluators.runs.marks import unsealed, unsealed_note
from evaluators.runs.reading import is_iit, is_of_tasks
from evaluators.show import terminal
from evaluators.show.records import Key, Shown, answered_turn, asked_of_turn
from evaluators.show.selection import ALL, Filter, Rows, one_run, rows_of
from evaluators.show.task_words import TaskWords
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import AnyRun
from iit_bench.types import Prediction

LIMIT = 20  # items that are printed unless asked for more


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The answers of a run that a filter keeps, the first of them with what was asked."""

    run: str
    total: int  # scored targets or items of the run
    matching: int
    items: tuple[Shown, ...]  # at most as many as asked for
    words: str  # of the filter
    note: str = ""  # what a reader must know, e.g. that the benchmark is not at hand

    def as_text(self, most: int = terminal.CLIP) -> str:
        """For a terminal; texts of more than `most` characters are cut."""
        if not self.matching:
            none = f"{terminal.safe(self.run)}: none of {self.total:,} answers is {terminal.safe(self.words)}.\n"
            return none + (f"{terminal.safe(self.note)}\n" if self.note else "")
        head = f"{terminal.safe(self.run)}: {self.matching:,} of {self.total:,} answers{terminal.shown(len(self.items), self.matching)}"
        return terminal.page(head, self.note, self.items, most)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        head = {"run": self.run, "total": self.total, "matching": self.matching, "filter": self.words, "note": self.note}
        return {**head, "items": [item.as_dict() for item in self.items]}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The items whose outcome differs between two runs, counts first."""

    a: str
    b: str
    both: int  # items of both, by everything of the filter but outcomes and transitions
    only_a: int  # items that only A has
    only_b: int
    counts: Mapping[tuple[str, str], int]  # (outcome of A, of B) -> items of both, equal outcomes included
    matching: int  # items that differ, by the whole filter
    items: tuple[Shown, ...]
    words: str
    note: str = ""

    def as_text(self, most: int = terminal.CLIP) -> str:
        """For a terminal; texts of more than `most` characters are cut."""
        head = terminal.counted(self.a, self.b, self.counts, (self.both, self.only_a, self.only_b))
        if not self.matching:
            return f"{head}\nNo item differs ({terminal.safe(self.words)}).\n" + (f"{terminal.safe(self.note)}\n" if self.note else "")
        return terminal.page(
            f"{head}\n{self.matching:,} differ{terminal.shown(len(self.items), self.matching)}", self.note, self.items, most
        )

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        counts = [{"a": a, "b": b, "items": n} for (a, b), n in sorted(self.counts.items())]
        head = {"a": self.a, "b": self.b, "both": self.both, "only_a": self.only_a, "only_b": self.only_b, "counts": counts}
        head |= {"matching": self.matching, "filter": self.words, "note": self.note}
        return {**head, "items": [item.as_dict() for item in self.items]}


def show(run: Path, only: Filter = ALL, bench: Path | None = None, limit: int = LIMIT) -> Selection:
    """The answers of a run that a filter keeps, in the order of the run.

    Args:
        run: a run folder of any suite, or files of another tool.
        only: the filter.
        bench: benchmark folder of a run of suite iit; None for where the run found it.
        limit: items with what was asked.

    Raises:
        UserError: the run cannot be read, or the filter names what it does not have.
    """
    _check(limit)
    found = rows_of(one_run(run), only)
    benchmark, note = _benchmark([found.run], bench)
    keys = [key for key in found.rows if key in found.kept]
    items = _shown(keys[:limit], [found], benchmark)
    note = _joined(note, unsealed_note(unsealed([found.run])))
    return Selection(run=found.name, total=len(found.rows), matching=len(keys), items=items, words=only.in_words(), note=note)


def diff(run_a: Path, run_b: Path, only: Filter = ALL, bench: Path | None = None, limit: int = LIMIT) -> Difference:
    """The items whose outcome differs between two runs of one benchmark, or of the same tasks.

    Args:
        run_a: run folder, or files of another tool.
        run_b: likewise, of the same suite.
        only: the filter; outcomes and transitions keep an item where they hold for A or for B.
        bench: benchmark folder of runs of suite iit; None for where they found it.
        limit: items with what was asked.

    Raises:
        UserError: a run cannot be read, the two have nothing in common, or the filter names what they do not have.
    """
    _check(limit)
    runs = one_run(run_a), one_run(run_b)
    _check_alike(*runs)
    a, b = (rows_of(one, only) for one in runs)
    there = [rows_of(one, only, by_outcome=False).kept for one in runs]
    both = [key for key in a.rows if key in there[0] and key in there[1]]
    _check_same_questions(a, b, both)
    counts = Counter((a.rows[key].outcome, b.rows[key].outcome) for key in both)
    keys = [key for key in both if a.rows[key].outcome != b.rows[key].outcome and (key in a.kept or key in b.kept)]
    benchmark, note = _benchmark(runs, bench)
    early = stopped_early(*(run for run in runs if is_iit(run)))
    return Difference(
        a=a.name,
        b=b.name,
        both=len(both),
        only_a=len(there[0] - there[1]),
        only_b=len(there[1] - there[0]),
        counts=dict(counts),
        matching=len(keys),
        items=_shown(keys[:limit], [a, b], benchmark),
        words=only.in_words(),
        note=_joined(*early, note, unsealed_note(unsealed(runs))),
    )


def _joined(*notes: str) -> str:
    return " ".join(filter(None, notes))


def _check(limit: int) -> None:
    if limit < 1:
        raise UserError(f"--limit {limit} leaves nothing to show; give 1 item or more")


def _check_alike(a: AnyRun, b: AnyRun) -> None:
    if a.run["suite"] != b.run["suite"]:
        raise UserError(f"run {str(a.path)!r} is of suite {a.run['suite']} and {str(b.path)!r} of {b.run['suite']}; name runs of one suite")
    if is_iit(a) and a.run["benchmark"]["rows_sha256"] != b.run["benchmark"]["rows_sha256"]:
        raise UserError(f"runs {str(a.path)!r} and {str(b.path)!r} were asked different benchmarks; evaluate both on the same one")


def _check_same_questions(a: Rows[Any], b: Rows[Any], both: Sequence[Key]) -> None:
    if not both:
        raise UserError(
            f"runs {str(a.run.path)!r} and {str(b.run.path)!r} have no item in common here; evaluate both on the same tasks or tiers"
        )
    for key in both:
        one, other = a.rows[key], b.rows[key]
        if isinstance(one, Prediction) and (one.question, one.choices) != (other.question, other.choices):
            raise UserError(f"dialogue {key[0]!r} asks another question in the second run; evaluate both on the same benchmark")


def _benchmark(runs: Sequence[AnyRun], given: Path | None) -> tuple[Benchmark | None, str]:
    of_iit = [run for run in runs if is_iit(run)]
    if not of_iit:
        if given is not None:
            raise UserError(f"--bench is for runs of suite iit, and {str(runs[0].path)!r} is of suite {runs[0].run['suite']}; leave it out")
        return None, ""
    found = benchmark_of(of_iit, given)
    return found, "" if found else "The benchmark is not where the run found it: give --bench DIR to see the questions."


def _shown(keys: Iterable[Key], sides: Sequence[Rows[Any]], benchmark: Benchmark | None) -> tuple[Shown, ...]:
    dialogues = {dialogue.id: dialogue for dialogue in benchmark.dialogues} if benchmark else {}
    words = [TaskWords(one.run) for one in sides if is_of_tasks(one.run)]
    found = []
    for key in keys:
        row = sides[0].rows[key]
        if isinstance(row, Prediction):
            turns = dialogues[row.dialogue].turns[: row.position + 1] if row.dialogue in dialogues else ()
            asked = asked_of_turn(row, [benchmark.questions[turn] for turn in turns] if benchmark else [])
            answers = [answered_turn(one.name, one.rows[key], one.why.get(key, ""), one.earlier.get(row.dialogue, ())) for one in sides]
        else:
            asked = words[0].asked(row)
            answers = [of.answered(one.name, one.rows[key], one.why.get(key, "")) for of, one in zip(words, sides, strict=True)]
        found.append(Shown(asked=asked, answers=tuple(answers)))
    return tuple(found)

"""`iit-bench compare`: two runs, or two folders of `--suite all`, suite by suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluators.compare.ledgers import ledgers_as_table
from evaluators.compare.table import suite_as_dict, suite_as_table
from evaluators.compare.tasks import TaskComparison, compare_suites
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import as_dict, as_table, asked_apart, check_comparable, compare, stopped_early
from evaluators.iit.ledger import are_repeats, ledger, noise_floor
from evaluators.runs.marks import UNSEALED, unsealed, unsealed_note
from evaluators.runs.reading import is_iit, is_of_tasks, read_runs
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun, IitRun
from iit_bench.types import Figure, Ledger, PairedResult, Suite


@dataclass(frozen=True)
class OfTiers:
    """Two IIT runs."""

    results: Sequence[PairedResult]
    a: str
    b: str
    apart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # as `comparison.asked_apart` gives it
    ledgers: Sequence[Ledger] = ()  # with A as the base: of T targets, of V targets, where both ran some
    early: Sequence[str] = ()  # as `comparison.stopped_early` gives it
    floor: Figure | None = None  # where the runs are repeats of each other: how often they disagree
    unsealed: Sequence[str] = ()  # names, as `marks.unsealed` gives them

    def as_table(self) -> str:
        """The comparison as text for a terminal, one line per tier, with differences in percentage points; then the ledgers."""
        notes = [*self.early, *filter(None, [unsealed_note(self.unsealed)])]
        return as_table(self.results, self.a, self.b, apart=self.apart, notes=notes) + "\n" + ledgers_as_table(self.ledgers, self.floor)

    def as_dict(self) -> dict[str, Any]:
        """The comparison as `iit-bench compare --json` prints it."""
        more: dict[str, Any] = {"stopped_early": list(self.early), UNSEALED: list(self.unsealed)}
        more |= {"ledgers": [dataclasses.asdict(one) for one in self.ledgers], "noise_floor": self.floor and dataclasses.asdict(self.floor)}
        return as_dict(self.results, self.a, self.b, self.apart) | more


@dataclass(frozen=True, kw_only=True)
class OfTasks:
    """Two runs of the suite text or vqa."""

    results: Sequence[TaskComparison]
    left_out: Mapping[str, str]
    suite: Suite
    a: str
    b: str
    unsealed: Sequence[str] = ()  # names, as `marks.unsealed` gives them

    def as_table(self) -> str:
        """The comparison as text for a terminal: one line per task, then the tasks left out, each with its reason."""
        note = unsealed_note(self.unsealed)
        return suite_as_table(self.results, self.left_out, self.a, self.b) + (f"{note}\n" if note else "")

    def as_dict(self) -> dict[str, Any]:
        """The comparison as `iit-bench compare --json` prints it; tasks left out included."""
        return suite_as_dict(self.results, self.left_out, self.suite, self.a, self.b) | {UNSEALED: list(self.unsealed)}


def comparisons(path_a: Path, path_b: Path) -> Iterator[OfTiers | OfTasks]:
    """A minus B for every suite that both hold.

    Raises:
        UserError: a path is no run, holds several runs of one suite, the two share no suite, or their runs were not asked the same.
    """
    side_a, side_b = _by_suite(path_a), _by_suite(path_b)
    shared = [suite for suite in side_a if suite in side_b]
    if not shared:
        raise UserError(
            f"{str(path_a)!r} is of suite {', '.join(side_a)} and {str(path_b)!r} of {', '.join(side_b)}; compare runs of the same suite"
        )
    for suite in shared:
        a, b = side_a[suite], side_b[suite]
        names = (str(a.run["name"]), str(b.run["name"]))
        if is_iit(a) and is_iit(b):
            check_comparable(a.run, b.run, subset=True)
            yield _of_tiers(a, b, names)
        elif is_of_tasks(a) and is_of_tasks(b):
            results, left_out = compare_suites(a, b)
            yield OfTasks(results=results, left_out=left_out, suite=suite, a=names[0], b=names[1], unsealed=unsealed([a, b]))


def _of_tiers(a: IitRun, b: IitRun, names: tuple[str, str]) -> OfTiers:
    of_a, of_b = Turns.of_run(a), Turns.of_run(b)
    results = compare(of_a, of_b, names[1])
    made = [ledger(of_b, of_a, "T"), ledger(of_b, of_a, "V")]
    floor = noise_floor([of_a, of_b], None) if are_repeats(a.run, b.run) else None
    ledgers = [one for one in made if one is not None]
    early, marked = stopped_early(a, b), unsealed([a, b])
    return OfTiers(results, *names, apart=asked_apart(a.run, b.run), ledgers=ledgers, early=early, floor=floor, unsealed=marked)


def _by_suite(path: Path) -> dict[Suite, AnyRun]:
    runs: dict[Suite, AnyRun] = {}
    for run in read_runs(path):
        if run.run["suite"] in runs:
            raise UserError(f"{str(path)!r} holds several runs of suite {run.run['suite']}; name one of them")
        runs[run.run["suite"]] = run
    return runs

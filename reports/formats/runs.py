"""The runs of an export, as the leaderboard knows them, and the questions behind those of suite iit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluators.runs.reading import read_all
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from reports.benchmarks import benchmark_of
from reports.entries import Entry, Group, groups_of
from reports.models import Models, gather


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What is exported."""

    groups: Sequence[Group]  # IIT runs that may share a table
    models: Models  # all runs, one row per model
    bench: Path | None = None  # that the user names

    @property
    def entries(self) -> list[Entry]:
        """The IIT runs, in the order of the leaderboard."""
        return sorted((entry for group in self.groups for entry in group.entries), key=lambda entry: entry.style)

    def benchmark(self, entry: Entry) -> Benchmark:
        """The benchmark that an IIT run was asked.

        Raises:
            UserError: it is not at hand, or not that of the run.
        """
        group = next(group for group in self.groups if entry in group.entries)
        found = benchmark_of(group, self.bench)
        if found is None:
            raise UserError(
                f"run {str(entry.run.path)!r} does not hold the questions, and its benchmark is no longer where it found it; "
                "name the folder with --bench"
            )
        return found


def read(paths: Sequence[Path], bench: Path | None = None) -> Runs:
    """The runs at `paths`: run folders of any suite, and result files of other tools, each once.

    Raises:
        UserError: no runs, none that is known, or one named twice.
    """
    if not paths:
        raise UserError("there is no run to export; name one or more run folders")
    iit, suites = read_all(paths)
    places = Counter([*(run.path.resolve() for run in iit), *(run.path.resolve() for run in suites)])
    twice = [place for place, n in places.items() if n > 1]
    if twice:
        raise UserError(f"run {str(twice[0])!r} is given more than once; name each run once")
    groups = groups_of(iit)
    entries = sorted((entry for group in groups for entry in group.entries), key=lambda entry: entry.style)
    return Runs(groups=groups, models=gather(entries, suites), bench=bench)

"""The benchmark behind a group of runs on a page, to show what was asked."""

from __future__ import annotations

from pathlib import Path

from evaluators.runs import benchmarks
from iit_bench.storage.benchmark import Benchmark
from reports.entries import Group


def benchmark_of(group: Group, given: Path | None = None) -> Benchmark | None:
    """The benchmark that the runs of a group, which may share a table, were asked: `evaluators.runs.benchmarks.benchmark_of`."""
    return benchmarks.benchmark_of([entry.run for entry in group.entries], given)

"""The benchmark behind runs of suite iit, to show what was asked: run folders name it by the hash of its content, and hold none of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark, load_benchmark, load_manifest
from iit_bench.storage.runs import IitRun


def benchmark_of(runs: Sequence[IitRun], given: Path | None = None) -> Benchmark | None:
    """The benchmark that the runs were asked.

    Args:
        runs: one or more, all of one benchmark.
        given: the folder that the user names; None for where the runs found it.

    Returns:
        None where no folder is named and the runs' own is gone, or holds another benchmark by now.

    Raises:
        UserError: `given` cannot be read, or is not the benchmark of these runs.
    """
    wanted = str(runs[0].run["benchmark"]["rows_sha256"])
    if given is not None:
        found = load_benchmark(given)
        if found.rows_sha256 != wanted:
            raise UserError(
                f"--bench {str(given)!r} is not what run {str(runs[0].path)!r} was asked (its rows_sha256 differs); name that "
                "run's benchmark, or leave out --bench"
            )
        return found
    for place in dict.fromkeys(str(run.run.get("arguments", {}).get("bench")) for run in runs):
        folder = Path(place)
        try:
            if (folder / "manifest.json").is_file() and load_manifest(folder)["rows_sha256"] == wanted:
                return load_benchmark(folder)
        except UserError:  # what lies there now is another folder, or a damaged one: the caller does without
            continue
    return None

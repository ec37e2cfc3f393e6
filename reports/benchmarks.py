"""The benchmark behind a page's runs, to show what was asked: run folders name it by the hash of its content, and hold none of it."""

from __future__ import annotations

from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark, load_benchmark, load_manifest
from reports.entries import Group


def benchmark_of(group: Group, given: Path | None = None) -> Benchmark | None:
    """The benchmark that the runs of a group were asked.

    Args:
        group: runs that may share a table, so all of one benchmark.
        given: the folder that the user names; None for where the runs found it.

    Returns:
        None where no folder is named and the runs' own is gone, or holds another benchmark by now.

    Raises:
        UserError: `given` cannot be read, or is not the benchmark of these runs.
    """
    wanted = str(group.entries[0].header["benchmark"]["rows_sha256"])
    if given is not None:
        found = load_benchmark(given)
        if found.rows_sha256 != wanted:
            raise UserError(
                f"--bench {str(given)!r} is not what run {str(group.entries[0].run.path)!r} was asked (its rows_sha256 differs); name that "
                "run's benchmark, or leave out --bench"
            )
        return found
    for place in dict.fromkeys(str(entry.header.get("arguments", {}).get("bench")) for entry in group.entries):
        folder = Path(place)
        try:
            if (folder / "manifest.json").is_file() and load_manifest(folder)["rows_sha256"] == wanted:
                return load_benchmark(folder)
        except UserError:  # what lies there now is another folder, or a damaged one: the page does without
            continue
    return None

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
        return _with_all_asked(found, runs)
    for place in dict.fromkeys(str(run.run.get("arguments", {}).get("bench")) for run in runs):
        folder = Path(place)
        try:
            if (folder / "manifest.json").is_file() and load_manifest(folder)["rows_sha256"] == wanted:
                found = load_benchmark(folder)
                break
        except UserError:  # what lies there now is another folder, or a damaged one: the caller does without
            continue
    else:
        return None
    return _with_all_asked(found, runs)


def _with_all_asked(benchmark: Benchmark, runs: Sequence[IitRun]) -> Benchmark:
    """The benchmark, which holds what the runs were asked.

    Raises:
        UserError: it does not: the predictions were changed.
    """
    dialogues = {dialogue.id for dialogue in benchmark.dialogues}
    for run in runs:
        columns = run.prediction_columns(("dialogue", "question"))
        for name, known in (("dialogue", dialogues), ("question", benchmark.questions.keys())):
            if odd := [one for one in columns[name].unique().to_pylist() if one not in known]:
                raise UserError(
                    f"the predictions of run {str(run.path)!r} name the {name} {odd[0]!r}, which its benchmark does not have; evaluate it "
                    "again with --fresh"
                )
    return benchmark

"""Run folders, manifests and the like with a field changed, as if iit-bench had written them so: sealed anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluators.runs.recompute import forgetting_again, own_figures
from iit_bench.storage import runs
from iit_bench.storage.format import sha256_file
from iit_bench.storage.seals import SEAL, sealed
from iit_bench.types import Results


def reseal(path: Path, body: dict[str, Any]) -> None:
    """Write `body` with a seal; without one where the file has none."""
    body = sealed(body) if SEAL in body else body
    path.write_text(json.dumps(body), encoding="utf-8")
    relist(path)


def relist(path: Path) -> None:
    """Put a file's hash on record where the run.json beside it has one of before."""
    header = path.with_name("run.json")
    if path != header and header.is_file() and path.name in (run := json.loads(header.read_text(encoding="utf-8"))).get("files", {}):
        reseal(header, run | {"files": {**run["files"], path.name: sha256_file(path)}})


def list_files(folder: Path) -> None:
    """Put the hashes of a run's files on record, as the end of an evaluation does; `ended` stays as it is."""
    run, names = runs.load_run_header(folder), ("results.json", runs.ERRORS, runs.PROMPTS)
    runs.save_run_header(folder, {**run, "files": {name: sha256_file(folder / name) for name in names if (folder / name).is_file()}})


def save_run_outcome(folder: Path, rows: Any, results: Any, errors: Any) -> None:
    """Another outcome in a run folder, known to its run.json: figures of suite iit are those of `rows`, not of the outcome before."""
    runs.save_run_outcome(folder, rows, results, errors)
    _relist_outcome(folder)
    if isinstance(results, Results) and "benchmark" in runs.load_run_header(folder):
        complete = not any(error["kind"] == "machine" for error in errors)
        run = runs.load_run(folder, "iit")
        figures = dataclasses.replace(own_figures(run), complete=complete, forgetting=forgetting_again(run) or run.results.forgetting)
        runs.save_run_outcome(folder, rows, figures, errors)
        _relist_outcome(folder)


def _relist_outcome(folder: Path) -> None:
    for name in ("results.json", runs.ERRORS):
        relist(folder / name)


def change(path: Path, edit: Callable[[dict[str, Any]], Any] | None = None, **values: Any) -> dict[str, Any]:
    """Change a JSON file by a function, or set fields of it, and return what it holds now."""
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if edit is not None:
        edit(body)
    reseal(path, body | values)
    return body | values

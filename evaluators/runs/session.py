"""One session of work in a run folder: started or resumed under a lock, for every suite."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluators.runs.header import check_same_run, run_date
from evaluators.runs.options import RunOptions
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.models.contract import Model
from iit_bench.storage.runs import load_run_header, save_run_header


def dated(options: RunOptions, folders: Sequence[str] = ("",)) -> RunOptions:
    """The options with a date: the one given, else that of the run to resume, else today.

    Every process that works in a run folder finds the same date in its run.json, and tells it to the model's chat template.

    Args:
        options: of the run.
        folders: names of the run folders in `options.out`; "" is the folder itself.
    """
    day = options.date
    for name in folders:
        if day is None and not options.fresh and (options.out / name / "run.json").is_file():
            day = run_date(load_run_header(options.out / name))
    return dataclasses.replace(options, date=day or datetime.now(UTC).date().isoformat())


def limits_of(options: RunOptions, model: Model) -> BatchLimits:
    """How the run's requests are put together: as the run to resume does it, so that bits do not depend on who goes on; else decided now.

    Raises:
        UserError: the run to resume was begun in a way that this model, or this version, cannot go on with.
    """
    path = options.out / "run.json"
    resumes = not options.fresh and path.is_file()
    if not resumes:
        return BatchLimits.for_model(model.info, options.batch_size, model.way)
    recorded = load_run_header(options.out).get("engine")
    if recorded is None or options.engine == "plain":  # runs of before the record; `check_same_run` refuses the second where it is new
        return BatchLimits.for_model(model.info, options.batch_size, "plain")
    return BatchLimits.of_record(recorded, model)


@contextmanager
def enter(folder: Path, run: dict[str, Any], *, fresh: bool, outcome_files: Sequence[str]) -> Iterator[tuple[dict[str, Any], ResponseLog]]:
    """Start the run folder, or resume it if it holds the same run; yields run.json and the response log.

    Nothing in an existing folder is changed before its lock is held, because another process may be working there.

    Args:
        folder: the run folder; made if it does not exist.
        run: a new run.json, without format and version.
        fresh: start over; `outcome_files` are removed.
        outcome_files: names of the files and folders that a finished run has beside run.json and the log.

    Raises:
        UserError: a foreign folder, another run in it, or another process at work.
    """
    before = None
    if folder.is_dir() and any(not _is_partial(path) for path in folder.iterdir()):
        before = load_run_header(folder)  # refuses a foreign folder, also with `fresh`
        if not fresh:
            check_same_run(folder, before, run)
            run |= {name: before[name] for name in ("started", "seconds")} | {"resumed": before["resumed"] + 1}
    else:
        save_run_header(folder, run)
    with ResponseLog(folder / "responses.jsonl", fresh=fresh) as log:
        stale = [path for path in folder.iterdir() if _is_partial(path)]  # of a process that was killed
        for path in (*stale, *(folder / name for name in outcome_files if fresh)):
            _remove(path)
        if before is not None:
            save_run_header(folder, run)
        yield run, log


def _is_partial(path: Path) -> bool:
    """Whether a process was killed before it had finished this file (`storage.atomic`) or scratch folder."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

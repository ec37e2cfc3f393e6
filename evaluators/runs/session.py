"""One session of work in a run folder: started or resumed under a lock, for every suite."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluators.runs.header import check_same_run, engine_option, run_date, run_identity
from evaluators.runs.options import RunOptions
from iit_bench.engine.growth import found_limits
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.shares import LOCKS, SharedLog, rank_logs, set_aside
from iit_bench.errors import UserError
from iit_bench.models.contract import Model
from iit_bench.ranks import Rank, this_rank
from iit_bench.storage.folder_locks import LOCK, holding, refuse_if_held
from iit_bench.storage.litter import unfinished
from iit_bench.storage.runs import load_run_header, save_run_header

OTHER_FOLDER = "choose a new or empty folder, or move its files away"
ORPHANS_END = 10.0  # seconds after which nothing writes any more that a killed process had started


def as_begun(options: RunOptions, folders: Sequence[str] = ("",)) -> RunOptions:
    """The options with what the run to resume has settled before a model is loaded: its date, else today's, and whether it is plain.

    Every process that works in a run folder finds both in its run.json. A chat template may be told the date. A model that is loaded for
    `--engine plain` reads images and prompts in another way, which shows in the last digits; runs of before that option were all plain.

    Args:
        options: of the run.
        folders: names of the run folders in `options.out`; "" is the folder itself.

    Raises:
        UserError: another process that works alone is writing one of them.
    """
    paths = [options.out / name for name in folders]
    for path in paths:
        refuse_if_held(path)
    begun = [load_run_header(path, OTHER_FOLDER) for path in paths if not options.fresh and (path / "run.json").is_file()]
    day = options.date or next(filter(None, map(run_date, begun)), None) or datetime.now(UTC).date().isoformat()
    plain = "plain" in map(engine_option, begun)
    return dataclasses.replace(options, date=day, engine="plain" if plain else options.engine)


def limits_of(options: RunOptions, model: Model) -> BatchLimits:
    """How the run's requests are put together: as the run to resume does it, so that bits do not depend on who goes on; else decided now.

    Raises:
        UserError: the run to resume was begun in a way that this model, or this version, cannot go on with.
    """
    path = options.out / "run.json"
    resumes = not options.fresh and path.is_file()
    if not resumes:
        return found_limits(model, options.batch_size)
    recorded = load_run_header(options.out).get("engine")
    if recorded is None:  # a run of before the record
        return BatchLimits.for_model(model.info, options.batch_size, "plain")
    return BatchLimits.of_record(recorded, model)


@contextmanager
def enter(folder: Path, run: dict[str, Any], *, fresh: bool, outcome_files: Sequence[str]) -> Iterator[tuple[dict[str, Any], ResponseLog]]:
    """Start the run folder, or resume it if it holds the same run; yields run.json and the response log.

    Nothing in an existing folder is changed before its lock is held, because another process may be working there. Of several processes
    that a launcher started (`iit_bench.ranks`), the first writes run.json and the others follow it.

    Args:
        folder: the run folder; made if it does not exist.
        run: a new run.json, without format and version.
        fresh: start over; `outcome_files` are removed.
        outcome_files: names of the files and folders that a finished run has beside run.json and the log, in the order in which they go:
            the results, which say that the others are there, first.

    Raises:
        UserError: a foreign folder, another run in it, or another process at work.
    """
    rank = this_rank()
    run["session"] = _now()
    entered = (
        _enter_with_others(folder, run, rank, fresh, outcome_files) if rank.several else _enter_alone(folder, run, fresh, outcome_files)
    )
    header_there(folder)  # refuses a foreign folder before anything is written into it
    with holding(folder, shared=rank.several), entered as log, _threads_of(run):
        yield run, log


@contextmanager
def _enter_alone(folder: Path, run: dict[str, Any], fresh: bool, outcome_files: Sequence[str]) -> Iterator[ResponseLog]:
    before = header_there(folder)
    if before is None:
        save_run_header(folder, run)
    elif not fresh:
        _resume(folder, before, run)
    with ResponseLog(folder / "responses.jsonl", fresh=fresh) as log:
        _tidy(folder, outcome_files if fresh else ())
        log.absorb(() if fresh else set_aside(folder, run_identity(run)))
        if before is not None:
            save_run_header(folder, run)
        yield log


@contextmanager
def _enter_with_others(folder: Path, run: dict[str, Any], rank: Rank, fresh: bool, outcome_files: Sequence[str]) -> Iterator[ResponseLog]:
    if fresh and not rank.launch:
        raise UserError(
            f"--fresh cannot be given to each of {rank.of} processes of torchrun: one that starts late, or again, would remove what the "
            "others have done; remove the folder first, or use --processes"
        )

    def begin(log: SharedLog, only: bool) -> str:
        before = header_there(folder)
        starts_over = fresh and before is not None and before.get("launch") != rank.launch
        if only and (before is None or starts_over):
            log.start_over()
            _tidy(folder, outcome_files)
            run["launch"] = rank.launch
            save_run_header(folder, run)
        elif before is not None:
            if starts_over:
                raise UserError(f"other processes are working in {str(folder)!r}, so --fresh cannot start it over; wait for them")
            _resume(folder, before, run, joins=not only)
            run["launch"] = before.get("launch", "")
            if only:
                _tidy(folder, ())
                save_run_header(folder, run)
        return run_identity(load_run_header(folder))

    with SharedLog(folder, rank, begin, end=lambda: _tidy(folder, ())) as log:
        yield log


def record(folder: Path, run: Mapping[str, Any], log: ResponseLog) -> None:
    """Write run.json in the midst of a run; of several processes only the one that writes the results does."""
    if log.alone or log.finishes:
        save_run_header(folder, run)


def counted_time(run: Mapping[str, Any], started: float) -> dict[str, Any]:
    """The fields of run.json that count a session's time, at its end; `started` is on the monotonic clock."""
    return {"seconds": run["seconds"] + time.monotonic() - started, "session": ""}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _last_written(folder: Path) -> float:
    """When a log of the run was last written, in seconds of the system's clock; 0 without one. Asked before this process opens any."""
    logs = (folder / "responses.jsonl", *rank_logs(folder))
    return max((path.stat().st_mtime for path in logs if path.is_file()), default=0.0)


def _of_killed(folder: Path, before: Mapping[str, Any]) -> float:
    """Seconds of a session that ended without counting its own: from its beginning to its last answer."""
    try:
        return max(0.0, _last_written(folder) - datetime.fromisoformat(before["session"]).timestamp())
    except (KeyError, ValueError, TypeError):  # none, or of an earlier version
        return 0.0


def _resume(folder: Path, before: Mapping[str, Any], run: dict[str, Any], *, joins: bool = False) -> None:
    """Make `run` the run.json of another session of the run that is there; a process that `joins` others is no further session.

    Raises:
        UserError: another run is there.
    """
    if joins:  # the sizes that the first process found, not those that this one did
        run |= {name: before[name] for name in ("engine", "batch_tokens") if name in before}
    check_same_run(folder, before, run)
    run |= {name: before[name] for name in ("started", "seconds")} | {"resumed": before["resumed"] + (not joins)}
    if joins:
        run["session"] = before.get("session", "")
    else:
        run["seconds"] += _of_killed(folder, before)
    run["threads"] = before.get("threads") or run.get("threads")


@contextmanager
def _threads_of(run: Mapping[str, Any]) -> Iterator[None]:
    """Every process of a run computes with as many threads as the first: the last bits of a sum depend on it."""
    torch = sys.modules.get("torch")
    if torch is None or not run.get("threads"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(run["threads"])
    try:
        yield
    finally:
        torch.set_num_threads(before)


def header_there(folder: Path) -> dict[str, Any] | None:
    """The run.json of a folder that a run is to be written into; None for one in which a run may be begun.

    Raises:
        UserError: it holds something else, or what this version cannot read.
    """
    return load_run_header(folder, OTHER_FOLDER) if _holds_files(folder) else None


def _holds_files(folder: Path) -> bool:
    """Whether a folder holds more than what a run leaves that was ended before its first answer."""
    return folder.is_dir() and any(path.name not in (LOCKS, "responses.jsonl") or path.stat().st_size for path in _whole(folder))


def _whole(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK and not _is_partial(path)]


def _tidy(folder: Path, outcome_files: Sequence[str]) -> None:
    """Remove what a killed process left unfinished, and the files of a run that is started over."""
    stale = [path for path in folder.iterdir() if _is_partial(path)]
    logs = rank_logs(folder) if outcome_files else []
    for path in (*stale, *logs, *(folder / name for name in outcome_files)):
        _remove(path)


def _is_partial(path: Path) -> bool:
    """Whether a process was killed before it had finished this file (`storage.atomic`) or scratch folder."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not _is_partial(path):  # a process killed meanwhile leaves no run of which a part is gone
        path = path.rename(unfinished(path))
    until = time.monotonic() + ORPHANS_END
    while path.exists() and time.monotonic() < until:
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(0 if not path.exists() else 0.05)
    if path.exists():
        shutil.rmtree(path)  # which says what is in the way

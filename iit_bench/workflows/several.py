"""Several models, or the checkpoints of one training as they land, on one benchmark: a run folder each, and one report of them all."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from evaluators.iit.before_loading import check_asked
from evaluators.iit.comparison import incomparable
from evaluators.iit.evaluate import Shared, evaluate
from evaluators.runs.header import arguments
from evaluators.runs.options import RunOptions
from iit_bench.engine.shares import written_once
from iit_bench.errors import ItemError, MachineError, OthersAtWork, UserError, one_line
from iit_bench.models.checkpoint_check import shards
from iit_bench.models.checkpoint_files import checkpoint_sha256, find_checkpoint
from iit_bench.progress import notice
from iit_bench.ranks import this_rank
from iit_bench.storage import anew, seals
from iit_bench.storage.atomic import check_writable, full_or_read_only, write_atomic
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.storage.folder_locks import holding
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.storage.runs import load_run, load_run_header
from iit_bench.storage.tables import canonical_json
from iit_bench.types import Results

MARKS = ("config.json", "adapter_config.json")  # one of them makes a folder a checkpoint
WEIGHTS = re.compile(r"^(model|adapter_model)([-.].*)?\.safetensors$")
RECORD = "watched.json"  # in OUT: files, with sizes and times, of the checkpoints that were evaluated
BESIDE = ("out", "fresh", "threads", "allow_errors")  # options that leave what was evaluated as it is
Clock = Callable[[], float]
State = tuple[tuple[str, int, int], ...]  # of a checkpoint: name, size and time of change (ns) of each of its files


@dataclass(kw_only=True)
class Outcome:
    """What became of each run, by name, in the order of running."""

    results: dict[str, Results] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # name -> why
    elsewhere: dict[str, str] = field(default_factory=dict)  # name -> what other processes have in hand of its run
    page: Path | None = None


def evaluate_models(models: Sequence[str], options: RunOptions, progress: bool = True) -> Outcome:
    """Evaluate several models into OUT/NAME, the benchmark read once, and write OUT/report. One that fails does not stop the others,
    unless the disk is full or read-only.

    Args:
        models: names as for `RunOptions.model`. A model whose run folder is `options.base` is the first and has no base.
        options: of every run; `out` is the folder of all, `name` what the names of all begin with.
        progress: show progress bars.

    Raises:
        UserError: two models would have one folder, `options.out` is a folder of another kind, or the benchmark is unusable.
    """
    folders = {name: options.out / folder_name(name) for name in models}
    if len(set(folders.values())) < len(models):
        raise UserError(f"models {', '.join(models)} would share a run folder; evaluate them one by one, each with its own --out")
    refuse_other_kinds(options.out, "no runs of several models go")
    assert options.bench is not None  # RunOptions refuses suite iit without one
    shared = Shared(load_benchmark(options.bench))
    outcome = Outcome()
    base = None if options.base is None else options.base.resolve()
    ours = base in [folder.resolve() for folder in folders.values()]  # the base may not be there yet
    check_asked(_asked_whole(options) if ours else options, shared.benchmark)
    for name in sorted(models, key=lambda name: folders[name].resolve() != base):
        own = None if folders[name].resolve() == base else options.base
        called = f"{options.name} {folders[name].name}" if options.name else None
        one = options if own is not None or options.base is None else _asked_whole(options)
        one = dataclasses.replace(one, model=name, out=folders[name], base=own, name=called)
        _run(name, lambda one=one: one, shared, outcome, progress)  # type: ignore[misc]
    for name in list(outcome.elsewhere):  # another process may have finished it meanwhile
        if (folders[name] / "results.json").is_file() and load_run_header(folders[name])["ended"]:
            outcome.results[name] = load_run(folders[name]).results
            del outcome.elsewhere[name]
    if outcome.results and not outcome.elsewhere:
        with written_once(folders[min(outcome.results)]) if this_rank().several else nullcontext(True) as mine:
            outcome.page = _report(outcome, options, [folders[name] for name in models]) if mine else options.out / "report" / "index.html"
    return outcome


def _asked_whole(options: RunOptions) -> RunOptions:
    """The options of the base itself: against no base, and so to the end."""
    return dataclasses.replace(options, base=None, until=None, margin=RunOptions.margin)


def folder_name(model: str) -> str:
    """A folder's name for a model's name: the last part of a path or Hub id, without signs that a file system may refuse."""
    last = model.rstrip("/").rpartition("/")[2] if "/" in model else model.partition(":")[2] or model
    return re.sub(r"[^\w.@-]+", "-", last).strip("-.") or "model"


def _run(name: str, options: Callable[[], RunOptions], shared: Shared, outcome: Outcome, progress: bool) -> None:
    outcome.results.pop(name, None)
    try:
        outcome.results[name] = evaluate(options(), progress, shared)
    except OthersAtWork as error:
        outcome.elsewhere[name] = str(error)
    except (UserError, MachineError, ItemError, OSError) as error:
        if full_or_read_only(error):  # what comes after it would fail as well
            raise
        outcome.failed[name] = one_line(error)
        notice(anew.resumable(f"{name}: {one_line(error)}"))


def _report(outcome: Outcome, options: RunOptions, folders: Sequence[Path], *, series: bool = False) -> Path | None:
    """One report of the finished runs, with that of the base; `series`: with a page of them as a series, where two may share a table."""
    from reports.leaderboard import report

    base = [options.base] if options.base is not None and options.base.resolve() not in [one.resolve() for one in folders] else []
    finished = [folder for folder in (*base, *folders) if (folder / "results.json").is_file()]
    if not finished or not outcome.results or outcome.elsewhere:
        return None
    runs = [load_run_header(folder) for folder in finished if folder not in base]
    series = series and any(not incomparable(*two) for two in combinations(runs, 2))
    return report(finished, options.out / "report", series=series)


# ---------------------------------------------------------------- checkpoints that land


def watch(
    folder: Path,
    options: RunOptions,
    *,
    once: bool = False,
    every: float = 30.0,
    idle: float | None = None,
    progress: bool = True,
    wait: Callable[[float], None] = time.sleep,
    clock: Clock = time.monotonic,
) -> Outcome:
    """Evaluate each checkpoint that lands in `folder` once, into OUT/NAME, and keep one report of the series, OUT/report.

    A checkpoint is a folder directly in `folder` with a configuration and whole safetensors files; it counts as landed when nothing in it
    has changed between two looks. One that was evaluated before with the same options is left alone unless its weights changed; one that
    fails is tried again when it changes.

    Args:
        folder: where training writes checkpoints.
        options: of every run. `model` is a family that takes a checkpoint (`wings`, …) or "hf:"; `out` is the folder of the series.
        once: evaluate what is there, and end.
        every: seconds between two looks.
        idle: end after so many seconds without a new checkpoint; None = only when interrupted.
        progress: show progress bars.
        wait: sleeps so many seconds.
        clock: seconds, monotonic.

    Raises:
        UserError: no such folder, `options.out` is a folder of another kind, or the benchmark is unusable.
        KeyboardInterrupt: the same call goes on.
    """
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is no folder; name the one in which training writes its checkpoints")
    if options.out.resolve() == folder.resolve():
        raise UserError(f"--out {str(options.out)!r} is the folder that is watched; choose another")
    refuse_other_kinds(options.out, "no runs of checkpoints go")
    assert options.bench is not None
    check_writable(options.out)
    shared = Shared(load_benchmark(options.bench))
    check_asked(options, shared.benchmark)
    with holding(options.out, shared=this_rank().several):
        return _watch(shared, folder, options, once=once, every=every, idle=idle, progress=progress, wait=wait, clock=clock)


def _watch(
    shared: Shared,
    folder: Path,
    options: RunOptions,
    *,
    once: bool,
    every: float,
    idle: float | None,
    progress: bool,
    wait: Callable[[float], None],
    clock: Clock,
) -> Outcome:
    outcome = Outcome()
    done = (
        {}
        if options.fresh
        else {name: state for name, state in _load_done(options.out).items() if _was_asked_alike(options, folder / name)}
    )
    tried = dict(done)
    last = clock()
    for seen in _looks(folder, every if not once else min(every, 1.0), wait):
        landed = [name for name, state in seen.items() if tried.get(name) != state and is_whole(folder / name)]
        for name in sorted(landed, key=in_series):
            tried[name] = seen[name]
            outcome.failed.pop(name, None)
            _run(name, lambda name=name: _of_checkpoint(options, folder / name), shared, outcome, progress)  # type: ignore[misc]
            if name in outcome.results and outcome.results[name].complete:
                done[name] = seen[name]
                _save_done(options.out, done)
            there = options.out.iterdir() if options.out.is_dir() else ()  # it is not, where the first checkpoint fails to load
            runs = sorted((path.name for path in there if (path / "results.json").is_file()), key=in_series)
            outcome.page = _report(outcome, options, [options.out / run for run in runs], series=True) or outcome.page
            last = clock()
        if once or (idle is not None and clock() - last > idle):
            return outcome
    return outcome


def _looks(folder: Path, every: float, wait: Callable[[float], None]) -> Iterator[dict[str, State]]:
    """At every look, the checkpoints of `folder` that have not changed since the look before: names and states of their files."""
    before = _states(folder)
    while True:
        wait(every)
        now = _states(folder)
        yield {name: state for name, state in now.items() if before.get(name) == state}
        before = now


def _states(folder: Path) -> dict[str, State]:
    states = {}
    for path in sorted(folder.iterdir()):
        try:
            if path.is_dir() and any((path / mark).is_file() for mark in MARKS):
                files = [(one.name, one.stat()) for one in sorted(path.iterdir()) if one.is_file()]
                states[path.name] = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
        except OSError:  # training deletes old checkpoints
            continue
    return states


def is_whole(checkpoint: Path) -> bool:
    """Whether all weights of a checkpoint are there, to their last byte: the files of its index, or one file, each as long as its header
    says."""
    try:
        index = checkpoint / "model.safetensors.index.json"
        files = shards(index) if index.is_file() else [path for path in checkpoint.iterdir() if WEIGHTS.match(path.name)]
        return bool(files) and all(_is_whole_file(path) for path in files)
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_whole_file(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < min(2**27, path.stat().st_size):
            return False
        header = json.loads(file.read(length))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return bool(path.stat().st_size == 8 + length + end)


def in_series(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts checkpoint-9 before checkpoint-10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part)


def _of_checkpoint(options: RunOptions, checkpoint: Path, *, fresh: bool | None = None) -> RunOptions:
    """The options of a checkpoint's run; `fresh` None: anew if they say so, or its run is of other weights."""
    hub = options.model in ("hf", "hf:")
    out = options.out / checkpoint.name
    return dataclasses.replace(
        options,
        model=f"hf:{checkpoint}" if hub else options.model,
        checkpoint=None if hub else str(checkpoint),
        out=out,
        name=f"{options.name} {checkpoint.name}" if options.name else checkpoint.name,
        fresh=options.fresh or _is_of_other_weights(out, checkpoint, options) if fresh is None else fresh,
    )


def _was_asked_alike(options: RunOptions, checkpoint: Path) -> bool:
    """Whether the run of a checkpoint is finished and was given the same options. Where not, `evaluate` decides: it resumes, or refuses."""
    if not (options.out / checkpoint.name / "results.json").is_file():  # begun anew, and stopped
        return False
    try:
        before = load_run_header(options.out / checkpoint.name)["arguments"]
    except UserError:
        return False
    now = json.loads(canonical_json(arguments(_of_checkpoint(options, checkpoint, fresh=False))))
    return all(before.get(name) == value for name, value in now.items() if name not in BESIDE and not (name == "date" and value is None))


def _is_of_other_weights(run: Path, checkpoint: Path, options: RunOptions) -> bool:
    """Whether the run folder was made from other weights: a training that was started over writes checkpoints of the same names."""
    if not (run / "run.json").is_file():
        return False
    files = find_checkpoint(str(checkpoint), options.adapter, trust_remote_code=options.trust_remote_code)
    now = checkpoint_sha256(files.folder, adapter=files.adapter, trust_remote_code=options.trust_remote_code)
    return bool(load_run_header(run)["model"]["checkpoint_sha256"] != now)


# ---------------------------------------------------------------- what was evaluated already


def _load_done(out: Path) -> dict[str, State]:
    """States of the checkpoints that earlier calls have evaluated; a damaged record costs only time."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        done = record["evaluated"] if seals.is_whole(record) else {}
        return {name: tuple((str(a), int(b), int(c)) for a, b, c in state) for name, state in done.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _save_done(out: Path, done: Mapping[str, State]) -> None:
    write_atomic(out / RECORD, canonical_json(seals.sealed({"evaluated": dict(done)})).encode())

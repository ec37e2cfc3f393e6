"""`iit-bench lab`: run the cells of a grid in order of priority, as many processes as there are, until all are done.

A cell's lock is held while it is worked on, and that of a stage while it is trained; a process that is killed releases both, and the next
one resumes from the stage's checkpoint. `OUT/cells` has the results, `OUT/bench` the benchmark, `OUT/work` all that can be made again.
A cell that cannot be run, as where one of its files is damaged, is left out, and the others are run. What would stop each cell ends the
process: inputs that cannot be used, a disk that is full or read-only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iit_bench.errors import ItemError, MachineError, UserError, described
from iit_bench.lab import cells
from iit_bench.lab.cells import CellResult
from iit_bench.lab.failures import Failures
from iit_bench.lab.grid import Planned, load_grid, planned
from iit_bench.lab.locks import Busy, Locks
from iit_bench.lab.one_cell import check_inputs, failed_cell, identity_of, inputs_of, run_cell, stage_folders
from iit_bench.numerals import counted
from iit_bench.ranks import by_itself
from iit_bench.storage.atomic import check_writable, full_or_read_only
from iit_bench.storage.litter import remove_litter_in, remove_whole
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.terminal import write

PATIENCE = 2.0  # seconds between two looks at what another process does
BENCH = "bench"  # name of the lock under which the benchmark is built
FINISHED = ("done", "failed")
State = Literal["done", "failed", "running", "error", "left", "other"]  # error: it could not be run, and is left to be done


@dataclass(frozen=True, kw_only=True)
class LabOptions:
    """Options of `iit-bench lab`."""

    grid: str  # a preset's name or a YAML file
    out: Path
    only: tuple[str, ...] = ()  # see `grid.planned`
    llm: str = ""  # in place of the grid's inputs.llm
    tower: str = ""
    max_cells: int | None = None  # of this process
    replace: bool = False  # run cells again whose results have another identity
    keep: bool = False  # models of finished cells


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a grid is."""

    states: tuple[tuple[Planned, State], ...]
    seconds: float | None  # CPU seconds that the cells left will take, by those that are done; None where none is
    words: Mapping[str, str] = field(default_factory=dict)  # cell's name -> who runs it, or why it could not be run

    def count(self, state: State) -> int:
        """How many cells are in this state."""
        return sum(one == state for _, one in self.states)

    def line(self) -> str:
        """The counts, and an estimate, in a line."""
        words = [f"{n} {state}" for state, n in Counter(state for _, state in self.states).items()]
        left = f"; about {_minutes(self.seconds)} of one core left" if self.seconds else ""
        return f"{counted(len(self.states), 'cell')}: {', '.join(words)}{left}"

    def notes(self) -> list[str]:
        """A line per cell that another process runs, or that could not be run."""
        verbs = {"running": "is run by", "error": "could not be run:"}
        return [f"{name} {verbs[state]} {self.words[name]}" for name, state in self._named() if self.words.get(name)]

    def listing(self) -> str:
        """The cells with their states, a line each, and the counts."""
        width = max(len(name) for name, _ in self._named())
        lines = [f"{name.ljust(width)}  {state}{_bracketed(self.words.get(name, ''))}" for name, state in self._named()]
        return "\n".join([*lines, self.line()])

    def _named(self) -> list[tuple[str, State]]:
        return [(one.cell.name, state) for one, state in self.states]


class Experiment:
    """A grid in its folder.

    Raises:
        UserError: an unknown grid or input, or a folder of another kind.
    """

    def __init__(self, options: LabOptions) -> None:
        refuse_other_kinds(options.out, "no experiment goes", but=("lab",))
        grid = load_grid(options.grid)
        given = {name: value for name, value in (("llm", options.llm), ("tower", options.tower)) if value}
        self.options, self.grid = options, dataclasses.replace(grid, inputs=dataclasses.replace(grid.inputs, **given))
        self.plan = planned(self.grid, options.only)
        self.every = planned(self.grid) if options.only else self.plan
        self.out, self.cells, self.work = options.out, options.out / "cells", options.out / "work"
        self.failures = Failures(self.work / "errors")
        self._inputs: dict[str, str] | None = None
        self._assumed: dict[str, dict[str, str]] = {}
        self._locks: Locks | None = None
        self._said = ""

    # ------------------------------------------------------------ what is there

    @property
    def locks(self) -> Locks:
        """Who works on which cell."""
        if self._locks is None:
            self._locks = Locks(self.work)
        return self._locks

    def inputs(self) -> dict[str, str] | None:
        """Hashes of what the cells start from and are evaluated on; None before the benchmark is built."""
        from iit_bench.storage.benchmark import load_manifest

        if self._inputs is None and (self.out / "bench" / "manifest.json").is_file():
            self._inputs = inputs_of(self.grid, load_manifest(self.out / "bench")["rows_sha256"])
        return self._inputs

    def _inputs_with(self, benchmark: str) -> dict[str, str]:
        """The inputs with a cell's own benchmark, for a look before that of the folder is built; a run builds it first."""
        if benchmark not in self._assumed:
            self._assumed[benchmark] = inputs_of(self.grid, benchmark)
        return self._assumed[benchmark]

    def result(self, one: Planned) -> CellResult | None:
        """What is in the folder of a cell."""
        path = self.cells / f"{one.cell.name}.json"
        return cells.read_cell(path) if path.is_file() else None

    def state(self, one: Planned) -> State:
        """Where a cell is. `other` has results of another identity."""
        result = self.result(one)
        if result is None:
            return "left"
        inputs = self.inputs() or self._inputs_with(result.inputs.get("benchmark", ""))
        return result.state if result.identity == identity_of(one, inputs, self.grid) else "other"

    def standing(self) -> Standing:
        """Where all cells are."""
        states: list[tuple[Planned, State]] = []
        words: dict[str, str] = {}
        for one in self.plan:
            state, name = self.state(one), one.cell.name
            if state not in FINISHED:
                holder = self.locks.holder(name) if (self.work / "locks").is_file() else None
                reason = self.failures.reason(name)
                if holder is not None or reason:
                    state, words[name] = ("error", reason) if holder is None else ("running", holder)
            states.append((one, state))
        return Standing(states=tuple(states), seconds=self._estimate(states), words=words)

    def _estimate(self, states: Sequence[tuple[Planned, State]]) -> float | None:
        """CPU seconds of the cells that are left: of each the mean of its method's, or of all."""
        spent: dict[str, list[float]] = {}
        for one, state in states:
            if state == "done" and one.recipes and (result := self.result(one)):
                spent.setdefault(one.cell.method, []).append(sum(result.cpu_seconds.values()) - result.cpu_seconds["stage1"])
        every = [seconds for of in spent.values() for seconds in of]
        if not every:
            return None
        left = [spent.get(one.cell.method, every) for one, state in states if state not in FINISHED]
        return sum(sum(of) / len(of) for of in left)

    def check_writable(self) -> None:
        """Refuse a folder that cannot be written, before torch is imported and other processes are started.

        Raises:
            UserError: it cannot be.
        """
        for folder in (self.cells, self.work):
            check_writable(folder)

    def refuse_others(self) -> None:
        """Refuse to run cells whose results would be replaced, before any is run.

        Raises:
            UserError: there are some.
        """
        if self.options.replace:
            return
        if others := [one.cell.name for one in self.plan if self.state(one) == "other"]:
            raise UserError(
                f"{str(self.cells)!r} has {others[0]} (and {len(others) - 1} more) of other recipes, inputs or another benchmark; "
                "--replace runs them again, or give another --out"
            )

    # ------------------------------------------------------------ running

    def run(self, progress: bool = True) -> Standing:
        """Run cells until none is left for this process, and return where the grid is then.

        A cell that cannot be run has the state "error" then, and the next call tries it again.

        Raises:
            UserError: results of other recipes are in the way, inputs are missing or cannot be used, the disk is full, …
        """
        self.check_writable()
        import torch

        torch.set_num_threads(1)  # the last bits depend on it, and processes share the cores
        with by_itself():
            shared = self._benchmark(progress)
            self.refuse_others()
            self._tidy_after_killed()
            self.failures.begin()
            if trained := [one for one in self.plan if one.recipes and self.state(one) not in FINISHED]:
                check_inputs(self.grid, trained[0])
            done = 0
            while self.options.max_cells is None or done < self.options.max_cells:
                found = self._next(shared, progress)
                if found == "none":
                    break
                if found == "wait":
                    time.sleep(PATIENCE)
                    continue
                done += found == "ran"
                _say(self.standing().line(), progress)
        return self.standing()

    def _next(self, shared: Any, progress: bool) -> Literal["ran", "error", "wait", "none"]:
        """Run the first cell that is free, and that has not failed since this process began."""
        waits = ""
        for one in self.plan:
            name = one.cell.name
            if self._is_over(one):
                continue
            try:
                with self.locks.held(name, keep=self.options.keep):
                    if self._is_over(one):  # by another process, since
                        continue
                    return self._run(one, shared, progress)
            except Busy as busy:
                if str(busy) != name:
                    waits = waits or f"{name} waits for a stage that {self.locks.holder(str(busy)) or 'another process'} trains"
        if waits and waits != self._said:
            _say(waits, progress)
            self._said = waits
        return "wait" if waits else "none"

    def _is_over(self, one: Planned) -> bool:
        """Whether a cell is finished, or has failed since this process began."""
        return self.state(one) in FINISHED or self.failures.is_new(one.cell.name)

    def _run(self, one: Planned, shared: Any, progress: bool) -> Literal["ran", "error"]:
        """Run a cell, whose lock is held.

        Raises:
            UserError: the disk is full or read-only.
        """
        from iit_bench.training.steps import Diverged

        inputs, name = self.inputs(), one.cell.name
        assert inputs is not None, "the benchmark is built"
        _say(f"{name}: begun", progress)
        self.failures.forget(name)
        begun = time.monotonic()
        try:
            result, items = run_cell(self.grid, one, inputs, out=self.out, shared=shared, take=self.locks.held, progress=progress)
        except Diverged as error:
            result, items = failed_cell(self.grid, one, inputs, str(error)), []
        except (UserError, MachineError, ItemError, OSError) as error:
            if full_or_read_only(error):
                raise
            self.failures.record(name, described(error))
            _say(f"{name}: could not be run: {self.failures.reason(name)}", progress)
            return "error"
        cells.write(self.cells, result, items)
        if not self.options.keep:
            self._clear(one, inputs)
        _say(f"{name}: {_outcome(result)} ({time.monotonic() - begun:.0f} s)", progress)
        return "ran"

    def _clear(self, one: Planned, inputs: dict[str, str]) -> None:
        """Remove a finished cell's run, and its models that no other cell of the grid starts from."""
        remove_whole(self.work / "runs" / one.cell.name)
        unfinished = [other for other in self.every if other is not one and not self._is_finished(other)]
        needed = {folder for other in unfinished for folder in stage_folders(other, inputs, self.work)}
        for folder in stage_folders(one, inputs, self.work)[1:]:
            if folder not in needed:
                remove_whole(folder)  # not piece by piece: what is left would pass for a trained stage
                with contextlib.suppress(OSError):
                    folder.with_suffix(".yaml").unlink()

    def _tidy_after_killed(self) -> None:
        """Remove what is unfinished, and clear cells that are finished and were not cleared; kept models stay."""
        for folder in (self.cells, self.work, *(self.work / name for name in ("runs", "stages", "errors"))):
            remove_litter_in(folder, locked=False)
        inputs, named = self.inputs(), {one.cell.name: one for one in self.every}
        assert inputs is not None, "the benchmark is built"
        for name, kept in self.locks.noted().items():
            if name in named and self._is_finished(named[name]):
                keep = kept or self.options.keep
                with contextlib.suppress(Busy), self.locks.held(name, keep=keep):
                    if not keep:
                        self._clear(named[name], inputs)

    def _is_finished(self, one: Planned) -> bool:
        """Whether a cell has a result that can be read, also of one that is none of this process's."""
        try:
            return self.state(one) in FINISHED
        except UserError:
            return False

    def _benchmark(self, progress: bool) -> Any:
        """The benchmark, built by the first process that comes.

        Raises:
            UserError: the folder has one that was built otherwise.
        """
        from builders.build import BuildOptions, build, otherwise
        from evaluators.iit.evaluate import Shared
        from iit_bench.storage.benchmark import load_benchmark

        folder, bench = self.out / "bench", self.grid.bench
        text, visual = bench.text or None, bench.visual or None
        options = BuildOptions(
            out=folder, preset=bench.preset, text=text, visual=visual, size=bench.size, tiers=bench.tiers, seed=bench.seed
        )
        if (holder := self.locks.holder(BENCH)) is not None:
            _say(f"waiting for the benchmark, which {holder or 'another process'} builds", progress)
        with self.locks.held(BENCH, wait=True):
            if not (folder / "manifest.json").is_file():
                _say("building the benchmark", progress)
                build(options)
        benchmark = load_benchmark(folder)
        if other := otherwise(options, benchmark.manifest):
            raise UserError(
                f"{str(folder)!r} was built with {other} as in the grid; remove it to have it built again, or give another --out"
            )
        return Shared(benchmark)


def run_lab(options: LabOptions, progress: bool = True) -> Standing:
    """Run a grid, or what is left of it, in this process; others may work on it at the same time.

    Raises:
        UserError: an unknown grid or input, results of other recipes in the way, …
        KeyboardInterrupt: the same call resumes.
    """
    return Experiment(options).run(progress)


def _outcome(result: CellResult) -> str:
    if result.state == "failed":
        return result.reason
    parts = (f"{tier} {count.correct / count.n:.3f}" for tier, count in result.scores.items() if len(tier) < 3 and count.n)
    return ", ".join(parts)


def _bracketed(words: str) -> str:
    return f" ({words})" if words else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _say(line: str, progress: bool) -> None:
    if progress:
        write(line, file=sys.stderr, flush=True)

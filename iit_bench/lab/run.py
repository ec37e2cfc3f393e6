"""`iit-bench lab`: run the cells of a grid in order of priority, as many processes as there are, until all are done.

A cell's lock is held while it is worked on, and that of a stage while it is trained; a process that is killed releases both, and the next
one resumes from the stage's checkpoint. `OUT/cells` has the results, `OUT/bench` the benchmark, `OUT/work` all that can be made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iit_bench.errors import UserError
from iit_bench.lab import cells
from iit_bench.lab.cells import CellResult
from iit_bench.lab.grid import Planned, load_grid, planned
from iit_bench.lab.one_cell import Busy, failed_cell, identity_of, inputs_of, run_cell, stage_folders
from iit_bench.numerals import counted
from iit_bench.ranks import by_itself
from iit_bench.storage.litter import remove_litter_in, remove_whole
from iit_bench.storage.locks import ByteLocks
from iit_bench.terminal import write

PATIENCE = 2.0  # seconds between two looks at what another process does
BENCH = "bench"  # name of the lock under which the benchmark is built
State = Literal["done", "failed", "running", "left", "other"]


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

    def count(self, state: State) -> int:
        """How many cells are in this state."""
        return sum(one == state for _, one in self.states)

    def line(self) -> str:
        """The counts, and an estimate, in a line."""
        words = [f"{n} {state}" for state, n in Counter(state for _, state in self.states).items()]
        left = f"; about {_minutes(self.seconds)} of one core left" if self.seconds else ""
        return f"{counted(len(self.states), 'cell')}: {', '.join(words)}{left}"


class Experiment:
    """A grid in its folder."""

    def __init__(self, options: LabOptions) -> None:
        grid = load_grid(options.grid)
        given = {name: value for name, value in (("llm", options.llm), ("tower", options.tower)) if value}
        self.options, self.grid = options, dataclasses.replace(grid, inputs=dataclasses.replace(grid.inputs, **given))
        self.plan = planned(self.grid, options.only)
        self.out, self.cells = options.out, options.out / "cells"
        self._inputs: dict[str, str] | None = None
        self._locks: ByteLocks | None = None

    # ------------------------------------------------------------ what is there

    @property
    def locks(self) -> ByteLocks:
        """The locks of the folder, by number."""
        if self._locks is None:
            (self.out / "work").mkdir(parents=True, exist_ok=True)
            self._locks = ByteLocks(self.out / "work" / "locks")
        return self._locks

    def inputs(self) -> dict[str, str] | None:
        """Hashes of what the cells start from and are evaluated on; None before the benchmark is built."""
        from iit_bench.storage.benchmark import load_manifest

        if self._inputs is None and (self.out / "bench" / "manifest.json").is_file():
            self._inputs = inputs_of(self.grid, load_manifest(self.out / "bench")["rows_sha256"])
        return self._inputs

    def result(self, one: Planned) -> CellResult | None:
        """What is in the folder of a cell."""
        path = self.cells / f"{one.cell.name}.json"
        return cells.read_cell(path) if path.is_file() else None

    def state(self, one: Planned) -> State:
        """Where a cell is. `other` has results of another identity."""
        inputs, result = self.inputs(), self.result(one)
        if result is not None and inputs is not None:
            return result.state if result.identity == identity_of(one, inputs, self.grid) else "other"
        return "left"

    def standing(self) -> Standing:
        """Where all cells are."""
        states: list[tuple[Planned, State]] = []
        for one in self.plan:
            state = self.state(one)
            if state in ("left", "other") and (self.out / "work" / "locks").is_file():
                if self.locks.take(_number(one.cell.name)):
                    self.locks.release(_number(one.cell.name))
                else:
                    state = "running"
            states.append((one, state))
        return Standing(states=tuple(states), seconds=self._estimate(states))

    def _estimate(self, states: Sequence[tuple[Planned, State]]) -> float | None:
        """CPU seconds of the cells that are left: of each the mean of its method's, or of all."""
        spent: dict[str, list[float]] = {}
        for one, state in states:
            if state == "done" and one.recipes and (result := self.result(one)):
                spent.setdefault(one.cell.method, []).append(sum(result.cpu_seconds.values()) - result.cpu_seconds["stage1"])
        every = [seconds for of in spent.values() for seconds in of]
        if not every:
            return None
        left = [spent.get(one.cell.method, every) for one, state in states if state in ("left", "other", "running")]
        return sum(sum(of) / len(of) for of in left)

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

        Raises:
            UserError: results of other recipes are in the way, inputs are missing, the disk is full, …
        """
        import torch

        torch.set_num_threads(1)  # the last bits depend on it, and processes share the cores
        with by_itself():
            shared = self._benchmark(progress)
            self.refuse_others()
            for folder in ("runs", "stages"):
                remove_litter_in(self.out / "work" / folder, locked=False)
            done = 0
            while self.options.max_cells is None or done < self.options.max_cells:
                found = self._next(shared, progress)
                if found == "none":
                    break
                if found == "wait":
                    time.sleep(PATIENCE)
                    continue
                done += 1
                _say(self.standing().line(), progress)
        return self.standing()

    def _next(self, shared: Any, progress: bool) -> Literal["ran", "wait", "none"]:
        """Run the first cell that is free."""
        waits = False
        for one in self.plan:
            if self.state(one) in ("done", "failed"):
                continue
            try:
                with self._held(one.cell.name):
                    if self.state(one) in ("done", "failed"):  # by another process, since
                        continue
                    self._run(one, shared, progress)
                return "ran"
            except Busy as busy:
                waits = waits or str(busy) != one.cell.name
        return "wait" if waits else "none"

    def _run(self, one: Planned, shared: Any, progress: bool) -> None:
        from iit_bench.training.steps import Diverged

        inputs = self.inputs()
        assert inputs is not None, "the benchmark is built"
        _say(f"{one.cell.name}: begun", progress)
        begun = time.monotonic()
        try:
            result, items = run_cell(self.grid, one, inputs, out=self.out, shared=shared, take=self._held, progress=progress)
        except Diverged as error:
            result, items = failed_cell(self.grid, one, inputs, str(error)), []
        cells.write(self.cells, result, items)
        if not self.options.keep:
            self._clear(one, inputs)
        _say(f"{one.cell.name}: {_outcome(result)} ({time.monotonic() - begun:.0f} s)", progress)

    def _clear(self, one: Planned, inputs: dict[str, str]) -> None:
        """Remove a finished cell's run, and its models that no other cell starts from."""
        work = self.out / "work"
        remove_whole(work / "runs" / one.cell.name)
        unfinished = [other for other in self.plan if other is not one and self.state(other) not in ("done", "failed")]
        needed = {folder for other in unfinished for folder in stage_folders(other, inputs, work)}
        for folder in stage_folders(one, inputs, work)[1:]:
            if folder not in needed:
                remove_whole(folder)  # not piece by piece: what is left would pass for a trained stage
                folder.with_suffix(".yaml").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """Hold the lock of a cell or a stage.

        Raises:
            Busy: another process does.
        """
        if not self.locks.take(_number(name)):
            raise Busy(name)
        try:
            yield
        finally:
            self.locks.release(_number(name))

    def _benchmark(self, progress: bool) -> Any:
        """The benchmark, built by the first process that comes."""
        from builders.build import BuildOptions, build
        from evaluators.iit.evaluate import Shared
        from iit_bench.storage.benchmark import load_benchmark

        folder, bench = self.out / "bench", self.grid.bench
        self.locks.take(_number(BENCH), wait=True)
        try:
            if not (folder / "manifest.json").is_file():
                _say("building the benchmark", progress)
                text, visual = bench.text or None, bench.visual or None
                build(
                    BuildOptions(
                        out=folder, preset=bench.preset, text=text, visual=visual, size=bench.size, tiers=bench.tiers, seed=bench.seed
                    )
                )
        finally:
            self.locks.release(_number(BENCH))
        return Shared(load_benchmark(folder))


def run_lab(options: LabOptions, progress: bool = True) -> Standing:
    """Run a grid, or what is left of it, in this process; others may work on it at the same time.

    Raises:
        UserError: an unknown grid or input, results of other recipes in the way, …
        KeyboardInterrupt: the same call resumes.
    """
    return Experiment(options).run(progress)


def listing(standing: Standing) -> str:
    """The cells with their states, a line each, and the counts."""
    width = max(len(one.cell.name) for one, _ in standing.states)
    lines = [f"{one.cell.name.ljust(width)}  {state}" for one, state in standing.states]
    return "\n".join([*lines, standing.line()])


def _outcome(result: CellResult) -> str:
    if result.state == "failed":
        return result.reason
    parts = (f"{tier} {count.correct / count.n:.3f}" for tier, count in result.scores.items() if len(tier) < 3 and count.n)
    return ", ".join(parts)


def _number(name: str) -> int:
    """The number of a lock."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _say(line: str, progress: bool) -> None:
    if progress:
        write(line, file=sys.stderr, flush=True)

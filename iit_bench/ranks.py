"""Which of several processes of one run this is, as the launcher says in the environment.

A rank decides where a process begins in the plan of a run, which log it writes and which GPU it takes; never which answers it gives: any
process may do any part (engine/shares.py). So an environment that is read wrongly costs nothing but the order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from iit_bench.errors import UserError

LAUNCH = "IIT_BENCH_LAUNCH"  # set by `iit-bench eval --processes` for the processes that it starts
ELSEWHERE = 75  # exit code of such a process that leaves the rest to the others
_OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", "SLURM_ARRAY_TASK_ID")  # without them `this_rank` finds no others
_LARGEST_STEP = 0xFFFFFFF0  # of Slurm: larger step ids are of the batch script, of interactive shells and the like


@dataclass(frozen=True, kw_only=True)
class Rank:
    """A process among `of`: its `number` from 0, and its number on this machine (`local`), which chooses the GPU.

    `launch` is the same for all processes of one launch, restarts included, and for no other launch; "" where none is known.
    """

    number: int = 0
    of: int = 1
    local: int = 0
    launch: str = ""

    @property
    def several(self) -> bool:
        """Whether several processes work on the run."""
        return self.of > 1


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Hide from what is done inside that this process is one of several: it works on a part that is its own."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name in _OF_RANKS}
    try:
        yield
    finally:
        os.environ.update(hidden)


def this_rank(environment: Mapping[str, str] | None = None) -> Rank:
    """The rank of this process: of torchrun, accelerate launch, srun or a Slurm array; the only process where none of them started it.

    Shells of `salloc` and batch scripts have variables of Slurm as well. They are no ranks: only what `srun` started has the id of a step.

    Raises:
        UserError: a variable is no number.
    """
    given = os.environ if environment is None else environment
    if "RANK" in given and "WORLD_SIZE" in given:
        rank, of = _number(given, "RANK"), _number(given, "WORLD_SIZE")
        run = given.get("TORCHELASTIC_RUN_ID", "none")
        launch = given.get(LAUNCH) or ("" if run == "none" else f"torchrun {run}")
        return _checked(rank, of, _number(given, "LOCAL_RANK", rank), launch)
    return _of_slurm(given)


def _of_slurm(given: Mapping[str, str]) -> Rank:
    rank, of, local, job = 0, 1, 0, given.get("SLURM_JOB_ID", "")
    if given.get("SLURM_STEP_ID") and "SLURM_PTY_PORT" not in given and _number(given, "SLURM_STEP_ID") <= _LARGEST_STEP:
        of = _number(given, "SLURM_STEP_NUM_TASKS", 1)
        rank = _number(given, "SLURM_PROCID", 0) if of > 1 else 0
        local = _number(given, "SLURM_LOCALID", 0) if of > 1 else 0
    if given.get("SLURM_ARRAY_TASK_ID"):
        tasks, step = _number(given, "SLURM_ARRAY_TASK_COUNT", 1), max(_number(given, "SLURM_ARRAY_TASK_STEP", 1), 1)
        place = (_number(given, "SLURM_ARRAY_TASK_ID") - _number(given, "SLURM_ARRAY_TASK_MIN", 0)) // step
        rank, of = place % max(tasks, 1) * of + rank, of * max(tasks, 1)
        job = given.get("SLURM_ARRAY_JOB_ID") or job
    elif of > 1:
        job = f"{job}.{given['SLURM_STEP_ID']}"
    return _checked(rank, of, local, f"slurm {job}") if of > 1 else Rank()


def _checked(rank: int, of: int, local: int, launch: str) -> Rank:
    if of <= 1:
        return Rank()
    if not 0 <= rank < of:
        raise UserError(f"the environment says that this is process {rank} of {of}, counted from 0; start it with torchrun, srun or alone")
    return Rank(number=rank, of=of, local=local, launch=launch)


def _number(given: Mapping[str, str], name: str, missing: int = -1) -> int:
    text = given.get(name, "")
    if not text:
        return missing
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"the variable {name} is {text!r}, which is no number; unset it, or let the launcher set it")
    return int(text)

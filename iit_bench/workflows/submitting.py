"""Submit an evaluation as a Slurm array through submitit: each task is a process of the run, and a preempted one is queued again."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iit_bench.errors import UserError, one_line
from iit_bench.ranks import ELSEWHERE, LAUNCH
from iit_bench.storage.atomic import check_writable, full_or_read_only, unwritable
from iit_bench.storage.folder_locks import holding
from iit_bench.storage.other_kinds import refuse_other_kinds

# Files of submitit: of a task that has no number yet, and those beside a file that it replaces.
_WITHOUT_NUMBER = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")
_BESIDE = re.compile(r"\w+\.pkl\.save_tmp")
_LONGEST = 3600.0  # seconds; either is there for moments


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a task of the array runs: `iit-bench WORDS` as process `number` of `of`. submitit stores it for the task, and calls it there."""

    words: tuple[str, ...]
    number: int
    of: int
    launch: str  # the same for all tasks of one submission

    def __call__(self) -> int:
        """Run the command; returns its exit code.

        Raises:
            RuntimeError: it has failed, or items failed for reasons of the machine, so that Slurm shows the task as failed.
        """
        from iit_bench.cli import main

        os.environ |= {"RANK": str(self.number), "WORLD_SIZE": str(self.of), "LOCAL_RANK": "0", LAUNCH: self.launch}
        code = main(list(self.words))
        if code not in (0, ELSEWHERE):
            raise RuntimeError(f"iit-bench ended with exit code {code}; see this task's log")
        return code

    def checkpoint(self) -> Any:
        """The task again: submitit calls this when Slurm is about to end the task. What was answered is in the log."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    words: Sequence[str],
    processes: int,
    logs: Path,
    *,
    cluster: Literal["slurm", "local"] = "slurm",
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Submit `iit-bench WORDS` as `processes` tasks of one array, and return submitit's jobs.

    Args:
        words: of `iit-bench eval`, "eval" included.
        processes: number of tasks.
        logs: folder for submitit's files and the output of each task.
        cluster: "local" starts the tasks on this machine at once, to try it out.
        parameters: of submitit's executor, e.g. timeout_min, gpus_per_node, slurm_partition.

    Raises:
        UserError: `logs` is a folder of another kind, cannot be written, or another process submits into it; submitit is not installed,
            there is no Slurm here, or a parameter is unknown.
    """
    refuse_other_kinds(logs, "no logs go", fix="choose another --logs")
    check_writable(logs)
    try:
        import submitit
    except ImportError as error:
        raise UserError("iit-bench submit needs submitit, which is not installed; pip install 'iit-bench[slurm]'") from error
    launch = uuid.uuid4().hex
    sessions = [Session(words=tuple(words), number=number, of=processes, launch=launch) for number in range(processes)]
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(name="iit-bench", **(parameters or {}))
        with _without_litter(logs), executor.batch():
            jobs = [executor.submit(session) for session in sessions]
    except (RuntimeError, NameError, TypeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and full_or_read_only(error):
            raise unwritable(logs, error) from error
        raise UserError(f"submitit cannot submit this ({one_line(error)}); see `iit-bench submit --help`") from error
    return jobs


@contextmanager
def _without_litter(logs: Path) -> Iterator[None]:
    """Hold the folder while tasks are submitted, and remove what submitit leaves of those that it could not submit.

    What a killed process has left is removed first, once it is so old that nobody can be about to use it: jobs of other programs may have
    their files in this folder, too.
    """
    with holding(logs, fix="choose another --logs"):
        for path in _files(logs, _WITHOUT_NUMBER, _BESIDE):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LONGEST:
                    path.unlink()
        before = _files(logs, _WITHOUT_NUMBER)
        try:
            yield
        finally:
            for path in _files(logs, _WITHOUT_NUMBER) - before:
                path.unlink(missing_ok=True)


def _files(folder: Path, *patterns: re.Pattern[str]) -> set[Path]:
    """Files with such names, without links: submitit leaves one from a script's old name to its new one."""
    found = (path for path in folder.iterdir() if any(pattern.fullmatch(path.name) for pattern in patterns))
    return {path for path in found if path.is_file() and not path.is_symlink()}

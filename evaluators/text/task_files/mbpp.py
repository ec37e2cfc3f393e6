"""MBPP's few-shot examples, and its metric: the generated program is run with the problem's tests in a process of its own.

The limits below stop runaway programs; they are no sandbox. The task is marked as unsafe, so it runs only where that was asked for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

EXAMPLES = (2, 3, 4)  # task_id
CPU_SECONDS = 3  # as lm-eval's metric allows; of the processor, so that a busy machine does not fail a right program
WALL_SECONDS = 30.0
MEMORY = 2 * 2**30  # bytes


def examples(dataset: Any) -> list[dict[str, Any]]:
    """The problems shown before every question, from the data set's split `prompt`."""
    by_number = {row["task_id"]: dict(row) | {"is_fewshot": True} for row in dataset if row["task_id"] in EXAMPLES}
    return [by_number[number] for number in EXAMPLES]


def pass_at_1(references: Sequence[str], predictions: Sequence[str | Sequence[str]]) -> float:
    """Share of the predictions (first sample of each) that pass their reference's tests."""
    programs = [one if isinstance(one, str) else one[0] for one in predictions]
    passed = [passes(program, tests) for program, tests in zip(programs, references, strict=True)]
    return sum(passed) / len(passed)


def passes(program: str, tests: str) -> bool:
    """Whether the program and then its tests run to their end."""
    end = "iit-bench: all tests ran"  # a program that leaves early, also with exit code 0, has not passed
    with tempfile.TemporaryDirectory(prefix="iit-bench-code-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", f"{program}\n{tests}\nprint({end!r})\n"],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=WALL_SECONDS,
                preexec_fn=_limit if sys.platform != "win32" else None,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError, ValueError):  # too slow, too long for a command line, a null character
            return False
    return done.returncode == 0 and done.stdout.decode(errors="replace").rstrip().endswith(end)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

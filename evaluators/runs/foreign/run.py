"""A run that another tool did, and its run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.runs import Run, TaskRun
from iit_bench.types import SuiteResults, TaskItem, TaskSuite

LARGEST = 1e100  # a score: squares of larger ones, and so standard errors and intervals, go beyond floating point

# What reading a tool's file raises where a value in it is missing, of another kind, out of range or nested too deeply.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError, AssertionError)


def foreign_header(tool: str, suite: TaskSuite, model: str, path: Path, **known: Any) -> dict[str, Any]:
    """run.json of a foreign run: what its files do not record is None, an empty text or 0.

    Args:
        tool: name and version, e.g. "lm-eval 0.4.13".
        model: the model's name, as the tool has it.
        path: the file it was read from.
        known: other fields of run.json; `model_info` goes into "model".
    """
    info = {"name": model, "checkpoint": "", "checkpoint_sha256": "", "blind": False, "dtype": "", "device": ""}
    nothing: dict[str, Any] = {
        "limit": None,
        "max_new_tokens": None,
        "system_prompt": "",
        "judge": "",
        "num_fewshot": None,
        "apply_chat_template": False,
    }
    nothing |= {"gen_kwargs": "", "seconds": None, "tokens": None, "resumed": 0, "command": f"not recorded: {tool} wrote {path.name}"}
    own = {"tool": tool, "name": model, "suite": suite, "arguments": {}, "model": info | known.pop("model_info", {})}
    return nothing | own | known


def foreign_run(path: Path, header: Mapping[str, Any], results: SuiteResults, items: Sequence[TaskItem] | None) -> TaskRun:
    """A run of the suites text or vqa, of `foreign_header` and what was read.

    Raises:
        UserError: a figure or a score is beyond `LARGEST`.
    """
    found = [
        (result.task, metric, number)
        for result in results.tasks
        for metric, figure in result.scores.items()
        for number in (figure.value, figure.se)
    ]
    for task, metric, number in [*found, *((item.task, item.metric, item.score) for item in items or ())]:
        if number is not None and not abs(number) <= LARGEST:
            raise UserError(
                f"{str(path)!r}, task {task!r}: the metric {metric!r} has a value of {number:g}, and none beyond {LARGEST:g} is a score; "
                "the file is damaged, or its metric is not to be imported"
            )
    return Run(path=path, run=header, results=results, foreign_items=items)

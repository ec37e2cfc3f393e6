"""run.json of a run that another tool did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iit_bench.types import TaskSuite

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

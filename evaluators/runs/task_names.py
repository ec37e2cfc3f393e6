"""Names of tasks as a user gives them: presets are expanded, unknown names are refused with a suggestion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from iit_bench.errors import UserError


def expand(tasks: Sequence[str], presets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Task names with presets replaced by their tasks, each name once, in the order given."""
    return tuple(dict.fromkeys(name for task in tasks for name in presets.get(task, (task,))))


def unknown_task(name: str, known: Iterable[str], where: str) -> UserError:
    """The error for an unknown task, with the most similar name. `where`: where it was looked for, e.g. "among lm-eval's tasks"."""
    names = sorted(known)
    close = [other for other in names if other.casefold() == name.casefold()] or get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "see `iit-bench list tasks`"
    return UserError(f"there is no task {name!r} {where}; {hint}")

"""Names of lm-eval's tasks, groups and tags: where they are defined, and which tasks they stand for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval import tasks as lm_evals_tasks
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory

from iit_bench.errors import UserError
from iit_bench.tools.lm_eval.process import without_advice

ROOT = Path(lm_evals_tasks.__file__).parent
# Folders of lm-eval whose names do not begin like their tasks'; spares reading all its 15,000 files (many seconds).
FOLDERS = {"social_iqa": "siqa", "wsc": "super_glue", "ai2_arc": "arc"}

Entries = Mapping[str, Any]  # name -> lm_eval.tasks._index.Entry


class Index(TaskManager):
    """lm-eval's task manager over some folders. Once `loaded` is set, `load` returns that, whatever it is asked for."""

    loaded: Any = None  # lm-eval's TaskDict

    def add(self, other: TaskManager) -> None:
        """Add the names of another index that this one lacks."""
        self._index: dict[str, Any] = {**other.task_index, **self.task_index}
        self._all_tasks = sorted(self._index)

    def load(self, task_list: Any) -> Any:
        """The tasks of a list of names, as lm-eval's TaskDict."""
        return self.loaded or super().load(task_list)

    def load_with(self, factory: TaskFactory, names: Sequence[str]) -> Any:
        """`load`, with each task and group made by `factory`."""
        self._factory = factory
        return self.load(list(names))


def read_index(names: Sequence[str], own: Sequence[Path] = ()) -> Index:
    """The index of the folders that hold the names, or of all of lm-eval if they are not complete there.

    Args:
        own: folders of tasks in lm-eval's format; on a clash of names they win over lm-eval's.
    """
    near = [folder for name in names if (folder := _folder(name))]
    with without_advice():
        index = Index(include_path=[*dict.fromkeys(near), *own], include_defaults=False)
        if not all(_complete(name, index.task_index) for name in names):
            index = Index(include_path=[*own], include_defaults=False)
            index.add(whole_index())
    return index


@cache
def whole_index() -> TaskManager:
    """All of lm-eval's tasks: 15,000 files, many seconds."""
    return TaskManager()


def _folder(name: str) -> Path | None:
    """The folder of lm-eval that the name begins with: `arc` for `arc_easy`."""
    if name in FOLDERS:
        return ROOT / FOLDERS[name]
    words = name.split("_")
    candidates = (ROOT / "_".join(words[:n]) for n in range(len(words), 0, -1))
    return next((path for path in candidates if os.path.isdir(path)), None)  # False also for what no folder can be called


def _complete(name: str, entries: Entries, in_lm_evals_group: bool = False) -> bool:
    """Whether a name and all that it stands for is in these entries.

    A tag may have tasks in any folder, so that only the whole index has all of them; the tags inside a group of lm-eval's own are in the
    group's folder.
    """
    if name not in entries:
        return False
    entry = entries[name]
    if entry.kind.name == "TAG":
        return in_lm_evals_group
    if entry.kind.name != "GROUP":
        return True
    return all(_complete(member, entries, ROOT in entry.yaml_path.parents) for member in _names(entry.cfg.get("task")))


def _names(members: Any) -> Iterator[str]:
    """Names in a group's list of members that the index must have; those of a task defined in place are not among them."""
    for member in [members] if isinstance(members, str) else members or ():
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping) and isinstance(member.get("task"), list):  # a group defined in place
            yield from _names(member["task"])
        elif isinstance(member, Mapping) and "dataset_path" not in member:
            yield str(member.get("group") or member.get("task"))


# ---------------------------------------------------------------- from names to tasks


def expand(name: str, own: Sequence[Path] = ()) -> dict[str, Any]:
    """The tasks that a name of lm-eval stands for: itself, or the members of a group or tag.

    Args:
        own: folders of tasks in lm-eval's format; on a clash of names they win over lm-eval's.

    Returns:
        {name: lm-eval's entry}, sorted by name.

    Raises:
        UserError: lm-eval has no such name, or a group with a task that is defined in place.
    """
    entries = read_index([name], own).task_index
    if name not in entries:
        raise unknown_name(name, entries, "task, group or tag", "`lm_eval ls tasks` lists them all")
    return {task: entries[task] for task in sorted(set(_tasks(name, entries)))}


def _tasks(name: str, entries: Entries) -> Iterator[str]:
    """Names of the tasks that a name stands for."""
    if name not in entries:
        raise UserError(f"a group of lm-eval names the task {name!r}, which lm-eval does not have; name the other tasks one by one")
    entry = entries[name]
    if entry.kind.name == "TAG":
        yield from entry.tags
    elif entry.kind.name == "GROUP":
        members = entry.cfg["task"]
        for member in [members] if isinstance(members, str) else members:
            if not isinstance(member, str):
                raise UserError(
                    f"lm-eval's group {name!r} defines a task in place, which has no name to load it by; name its tasks one by one"
                )
            yield from _tasks(member, entries)
    else:
        yield name


def matched(names: Sequence[str], index: TaskManager, others: Sequence[str] = ()) -> list[str]:
    """The names, each once, with patterns such as `mmlu_*` replaced by what they match.

    Args:
        others: further names that a user may have meant, for the error's hint.

    Raises:
        UserError: a name that the index does not have.
    """
    known: list[str] = []
    for name in names:
        if name in index.task_index:
            known.append(name)
            continue
        matches = index.match_tasks([name]) if any(mark in name for mark in "*?[") else []
        if not matches:
            listing = "`lm_eval ls tasks` lists lm-eval's, `iit-bench list tasks` ours"
            raise unknown_name(name, [*index.all_tasks, *others], "task, group, tag or preset", listing)
        known += matches
    return list(dict.fromkeys(known))


def unknown_name(name: str, known: Iterable[str], kinds: str, listing: str) -> UserError:
    """The error for a name that is not known, with the nearest one, or `listing`: how to see them all."""
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else listing
    return UserError(f"there is no lm-eval {kinds} called {name!r}; {hint}")

"""What has to be fetched for tasks: splits of data sets on the Hub for lm-eval's tasks, tables for VLMEvalKit's data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from builders.presets import describe_presets, load_preset
from evaluators.runs.task_names import expand
from evaluators.text.tasks import FACTS, suite_index
from evaluators.text.tasks import PRESETS as TEXT_PRESETS
from evaluators.vqa import presets as vqa
from iit_bench.data.snapshots import LOADERS
from iit_bench.errors import UserError
from iit_bench.registry import BUNDLED_SOURCES
from iit_bench.tools.lm_eval.configs import configs_of, splits_of
from iit_bench.tools.lm_eval.index import matched
from iit_bench.tools.vlmevalkit import dataset_class, installed, shells

TEXT, VISUAL = "lm-eval:", "vlmeval:"
BUNDLED = "comes with iit-bench: nothing to fetch"


@dataclass(frozen=True)
class Table:
    """A table of VLMEvalKit."""

    name: str
    url: str
    md5: str  # "" = VLMEvalKit knows none


@dataclass
class Needs:
    """What has to be in the data root for some tasks."""

    hub: dict[str, list[tuple[str | None, tuple[str, ...]]]] = field(default_factory=dict)  # data set -> (configuration, splits) of tasks
    revisions: dict[str, str] = field(default_factory=dict)  # data set -> revision that a task pins
    tables: list[Table] = field(default_factory=list)
    nothing: dict[str, str] = field(default_factory=dict)  # task -> why nothing is fetched for it


def needs_of(names: Sequence[str], include_path: Path | None = None) -> Needs:
    """What has to be fetched for presets, tasks, groups and tables.

    Raises:
        UserError: an unknown name (with the nearest), no name, or VLMEvalKit is needed and not installed.
    """
    text, visual, needs = _by_kind(names, include_path)
    if text:
        _add_text(text, include_path, needs)
    if visual:
        _add_tables(visual, needs)
    return needs


# ---------------------------------------------------------------- names


def presets() -> dict[str, tuple[str, ...]]:
    """Presets of the suites and of `iit-bench build`, each with the names it stands for."""
    built = {name: (*load_preset(name).text, *load_preset(name).visual) for name, _ in describe_presets()}
    return {**built, **TEXT_PRESETS, **vqa.PRESETS}


def _by_kind(names: Sequence[str], include_path: Path | None) -> tuple[list[str], list[str], Needs]:
    """The names behind `names`: lm-eval's, VLMEvalKit's, and those for which nothing is fetched."""
    text: list[str] = []
    visual: list[str] = []
    needs = Needs()
    known = presets()
    tables = _tables()
    for name in expand([name for name in names if name.strip()], known):
        if name in BUNDLED_SOURCES or name.startswith(FACTS):
            needs.nothing[name] = BUNDLED
        elif name.startswith(VISUAL) or (name in tables and not name.startswith(TEXT)):
            visual.append(name.removeprefix(VISUAL))
        else:
            text.append(name.removeprefix(TEXT))
    if not (text or visual or needs.nothing):
        raise UserError("no task is named; name a preset, tasks or tables, e.g. `iit-bench fetch wings-text --data-root DIR`")
    for name in visual:
        if name not in tables:
            close = get_close_matches(name, sorted(tables), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see `iit-bench list tasks`"
            raise UserError(f"VLMEvalKit has no address for a table called {name!r}; {hint}")
    others = sorted({*known, *tables})
    for name in text:  # a mistyped preset or table? (`matched` suggests names of lm-eval)
        near = [one for one in others if one.casefold() == name.casefold()] or get_close_matches(name, others, n=1, cutoff=0.85)
        if near and not _is_lm_evals(name, include_path):
            raise UserError(f"there is no preset, lm-eval task or VLMEvalKit table called {name!r}; did you mean {near[0]!r}?")
    return list(dict.fromkeys(text)), list(dict.fromkeys(visual)), needs


def _tables() -> set[str]:
    """Tables that VLMEvalKit has an address for; none if it is not installed."""
    try:
        installed()
    except UserError:
        return set()
    return vqa.known_tasks() - {vqa.EASYVQA}


def _is_lm_evals(name: str, include_path: Path | None) -> bool:
    """Whether the text suite has a task of this name."""
    with TemporaryDirectory(prefix="iit-bench-fetch-") as scratch:
        return name in suite_index([name], include_path, Path(scratch)).task_index


# ---------------------------------------------------------------- lm-eval


def suite_configs(names: Sequence[str], include_path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Configuration of each task behind the names, by name.

    Raises:
        UserError: no task, group or tag has such a name.
    """
    with TemporaryDirectory(prefix="iit-bench-fetch-") as scratch:
        index = suite_index(names, include_path, Path(scratch))
        return configs_of(matched(names, index, [*TEXT_PRESETS, FACTS]), index)


def _add_text(names: Sequence[str], include_path: Path | None, needs: Needs) -> None:
    for name, config in suite_configs(names, include_path).items():
        dataset, given = config.get("dataset_path"), config.get("dataset_kwargs") or {}
        if dataset is None or config.get("custom_dataset"):
            needs.nothing[name] = "reads its data with its own code, so they cannot be fetched in advance; run it once online"
        elif dataset in LOADERS.values() or "data_files" in given:
            needs.nothing[name] = "names its own files"
        else:
            needs.hub.setdefault(dataset, []).append((config.get("dataset_name"), tuple(splits_of(config))))
            revision = given.get("revision")
            if revision and needs.revisions.setdefault(dataset, revision) != revision:
                raise UserError(
                    f"task {name!r} asks for revision {revision!r} of {dataset!r}, another task for {needs.revisions[dataset]!r}; "
                    "fetch them into different folders"
                )


# ---------------------------------------------------------------- VLMEvalKit


def _add_tables(names: Sequence[str], needs: Needs) -> None:
    with shells() as root:
        for name in names:
            kind: Any = dataset_class(name, root)
            url = getattr(kind, "DATASET_URL", {}).get(name) or ""
            if not url.startswith(("http://", "https://")):
                raise UserError(f"VLMEvalKit has no address for table {name!r}; put {name}.tsv into the data root by hand")
            needs.tables.append(Table(name, url, getattr(kind, "DATASET_MD5", {}).get(name) or ""))

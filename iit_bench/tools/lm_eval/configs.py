"""Configurations of lm-eval's tasks, read without building the tasks, and the splits that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._yaml_loader import load_yaml

from iit_bench.tools.lm_eval.index import Index
from iit_bench.tools.lm_eval.process import without_advice

Config = Mapping[str, Any]  # a task's YAML file, with what it includes


class _ConfigReader(TaskFactory):
    """Walks groups and tags as lm-eval does, and keeps each task's configuration instead of building the task."""

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, dict[str, Any]] = {}

    def _build_task(self, entry: Any, overrides: dict[str, Any] | None) -> Any:
        self.configs[entry.name] = self._load_full_config(entry, overrides)
        return SimpleNamespace(task_name=entry.name)

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """Without the functions it names: some run code as soon as they are loaded."""
        config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else dict(entry.cfg or {})
        return {**config, **(overrides or {}), "metadata": {}}


def configs_of(names: Sequence[str], index: Index) -> dict[str, dict[str, Any]]:
    """Configuration of each task behind the names of an index, by name, with what its group overrides."""
    reader = _ConfigReader()
    with without_advice():
        for name in names:
            index.load_with(reader, [name])
    return reader.configs


# ---------------------------------------------------------------- splits


def evaluated_split(config: Config) -> str | None:
    """The split that lm-eval evaluates."""
    return config.get("test_split") or config.get("validation_split")


def fewshot_split(config: Config) -> str | None:
    """The split that the task names for its few-shot examples."""
    shots = config.get("fewshot_config")
    return config.get("fewshot_split") or (shots.get("split") if isinstance(shots, dict) else None)


def shown_split(config: Config) -> str | None:
    """The split that lm-eval takes few-shot examples from; None if the task brings its own examples."""
    shots = config.get("fewshot_config")
    if (named := fewshot_split(config)) or not (isinstance(shots, dict) and shots.get("samples") is not None):
        return named or config.get("training_split") or config.get("validation_split") or config.get("test_split")
    return None


def splits_of(config: Config) -> list[str]:
    """The split that a task evaluates, and the one of its few-shot examples, also if it shows none by default."""
    return [split for split in dict.fromkeys((evaluated_split(config), shown_split(config))) if split]

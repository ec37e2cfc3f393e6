"""Data of lm-eval's tasks: read from local snapshots instead of the Hub, checked, and known by their commits and hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetsError
from jinja2 import TemplateError

from iit_bench.data.fetched import check_unchanged
from iit_bench.data.snapshots import fetch_it, missing_split, snapshot_folder, split_files
from iit_bench.errors import UserError, described
from iit_bench.storage.format import files_sha256
from iit_bench.tools.lm_eval.configs import evaluated_split, fewshot_split, shown_split

FILE_LOADERS = frozenset({"json", "csv", "parquet", "text"})  # values of `dataset_path` that read the files in `data_files`


@dataclass(frozen=True, kw_only=True)
class LocalTask:
    """A task's configuration that reads local files, and what is known of them; without files, the configuration is unchanged."""

    config: dict[str, Any]
    folder: Path | None = None  # the snapshot
    files: tuple[Path, ...] = ()
    sha256: str = ""  # of the files
    revision: str = ""  # commit that they were fetched from; "" if unknown


def localised(name: str, config: dict[str, Any], *, data_root: Path, cache: Path, examples: int = 0) -> LocalTask:
    """A task's configuration with its data set replaced by the files of a snapshot.

    The files are named one by one and cached in `cache`: for a folder, `datasets` would key its cache by the folder's base name and return
    old rows without notice. A configuration that names its files itself, or makes its data, stays as it is.

    Args:
        examples: few-shot examples that are shown; with 0 the split that they come from may be missing.

    Raises:
        UserError: no snapshot, a missing split, a file that was changed after it was fetched, or a Python class with its own data.
    """
    if "data_files" in (config.get("dataset_kwargs") or {}) or callable(config.get("custom_dataset")):
        return LocalTask(config=config)
    if "dataset_path" not in config:
        raise UserError(f"lm-eval task {name!r} is a Python class that reads its own data; leave out --data-root or the task")
    folder = snapshot_folder(data_root, config["dataset_path"], name)
    shots = fewshot_split(config)
    named = [config.get(key) for key in ("test_split", "validation_split", "training_split")]
    loader, of_split = split_files(folder, config.get("dataset_name"), [split for split in dict.fromkeys([*named, shots]) if split])
    for split in (evaluated_split(config), shown_split(config) if examples else None):
        if split and split not in of_split:
            raise missing_split(name, config, split, folder, data_root)
    files = tuple(path for paths in of_split.values() for path in paths)
    revision = check_unchanged(data_root, files)
    kwargs: dict[str, Any] = {"data_files": {split: [str(path) for path in paths] for split, paths in of_split.items()}}
    kwargs["cache_dir"] = str(cache)
    if loader == "csv":
        kwargs["keep_default_na"] = False  # "None" and "NA" are words here
    changed: dict[str, Any] = {"dataset_path": loader, "dataset_name": None, "dataset_kwargs": kwargs}
    changed |= {key: None for key in ("validation_split", "training_split") if config.get(key) not in of_split}
    if shots and shots not in of_split:  # no example is shown, but lm-eval would look into the split
        changed |= {"fewshot_split": None, "fewshot_config": {"samples": [], "sampler": "first_n"}}
    return LocalTask(config=config | changed, folder=folder, files=files, sha256=files_sha256(files), revision=revision)


@contextmanager
def readable(name: str, dataset: str, data_root: Path | None) -> Iterator[None]:
    """Turns what lm-eval, `datasets` or a task's own functions raise over missing or malformed data into one sentence.

    Raises:
        UserError: names the task, the data set, the reason and what to do.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, SyntaxError, TemplateError, DatasetsError) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        reason = described(cause)
        if "module script" in reason:
            fix = "go online, or choose another task (for MBPP, iit_mbpp)"
            raise UserError(f"lm-eval task {name!r} needs a metric that `evaluate` loads from the Hub ({reason}); {fix}") from error
        if dataset in FILE_LOADERS:
            fix = "check the paths and the fields that its YAML file names"
            raise UserError(f"lm-eval task {name!r} cannot read its own data files ({reason}); {fix}") from error
        place, fix = "the Hub", f"go online, or {fetch_it(name)} and give --data-root DIR"
        if data_root is not None:
            place, fix = repr(str(data_root)), f"check that its files are complete and as published, or {fetch_it(name, data_root)}"
        raise UserError(f"lm-eval task {name!r} cannot read {dataset!r} from {place} ({reason}); {fix}") from error


def revisions_of(task: Any) -> set[str]:
    """Commits of the Hub repositories that a task was read from: `datasets` keeps what it loads in a folder named after the commit."""
    splits = (getattr(task, "dataset", None) or {}).values()
    folders = {Path(file["filename"]).parent.name for split in splits for file in getattr(split, "cache_files", ())}
    return {name for name in folders if re.fullmatch("[0-9a-f]{40}", name)}

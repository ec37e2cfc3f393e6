"""Files of a data set's splits in a local copy of its Hub repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.inside import stays_inside

LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}  # suffix -> builder of `datasets`, best first
_SPELLINGS = {"validation": ("validation", "valid", "val"), "train": ("train", "training")}
_UNNAMED = (None, "default", "main", "plain_text")  # configurations of a data set that is asked for without one


def snapshot_folder(data_root: Path, dataset_path: str, task: str) -> Path:
    """`data_root/<dataset_path>`, or `data_root/<owner>--<name>` and `data_root/<name>`.

    Raises:
        UserError: none of them exists.
    """
    names = (dataset_path, dataset_path.replace("/", "--"), dataset_path.rsplit("/", 1)[-1])
    for name in names:
        if stays_inside(name) and (data_root / name).is_dir():
            return data_root / name
    raise UserError(
        f"lm-eval task {task!r} needs the data set {dataset_path!r}, and there is no folder {str(data_root / dataset_path)!r}; "
        f"{fetch_it(task, data_root)}"
    )


def fetch_it(name: str, data_root: Path | str = "DIR") -> str:
    """How to get missing data, for the end of an error's sentence."""
    return f"fetch it with `iit-bench fetch {name} --data-root {data_root}`"


def missing_split(task: str, config: Mapping[str, Any], split: str, folder: Path, data_root: Path) -> UserError:
    """The error for a snapshot in which a split that a task needs is not found."""
    which = f" of configuration {config['dataset_name']!r}" if config.get("dataset_name") else ""
    return UserError(
        f"lm-eval task {task!r} finds no parquet, json or csv file of split {split!r}{which} in {str(folder)!r}; "
        f"put it there, or {fetch_it(task, data_root)}"
    )


def split_files(folder: Path, config: str | None, splits: Iterable[str]) -> tuple[str, dict[str, list[Path]]]:
    """The files of each split that exists, and the `datasets` builder that reads them: `find_splits` over a folder.

    Returns:
        ("parquet" | "json" | "csv", {split: files in the order of their names}); ("", {}) if no file matches.
    """
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in LOADERS and path.is_file())
    names = [path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts)]
    loader, files_of = find_splits(names, card_header(folder), config, list(splits))
    return loader, {split: [folder / name for name in files] for split, files in files_of.items()}


def find_splits(
    names: Sequence[str], card: Mapping[str, Any], config: str | None, splits: Sequence[str]
) -> tuple[str, dict[str, list[str]]]:
    """Which of a repository's files belong to the splits of a configuration.

    The repository's card (`configs:` in its YAML header) comes first. Else these layouts, first match wins: `config/split-*`,
    `config/split/*`, `split/config*`, `config-split*`, with or without a `data` folder around them; without a configuration the same with
    `config` left out, `default`, `main` or `plain_text`.

    Args:
        names: paths inside the repository, with "/".
        card: the header of its README.md; {} if it has none.

    Returns:
        As `split_files`, with names.
    """
    patterns, inside = _of_card(card, config)
    for suffix, loader in LOADERS.items():
        of_kind = sorted(name for name in names if name.endswith(suffix))
        if of_kind and (files_of := {split: files for split in splits if (files := _matching(of_kind, patterns.get(split, ())))}):
            return loader, files_of
    for suffix, loader in LOADERS.items():
        of_kind = sorted(name for name in names if name.endswith(suffix))
        for root in (inside, f"{inside}data/") if of_kind else ():
            for name in [config] if config and not inside else _UNNAMED:
                if files_of := {split: files for split in splits if (files := _laid_out(of_kind, root, name, split, suffix))}:
                    return loader, files_of
    return "", {}


def _of_card(card: Mapping[str, Any], config: str | None) -> tuple[dict[str, list[str]], str]:
    """A configuration in a card's `configs`: split → patterns of its files; the folder ("…/", "" = any) of its files."""
    listed = card.get("configs")
    configs = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    if config is None:  # as `datasets` chooses: the default, or the only one
        chosen = [entry for entry in configs if entry.get("default")]
        chosen = chosen or [entry for entry in configs if entry.get("config_name") == "default"]
        configs = chosen or (configs if len(configs) == 1 else [])
    else:
        configs = [entry for entry in configs if entry.get("config_name") == config]
    if not configs:
        return {}, ""
    files, folder = configs[0].get("data_files"), str(configs[0].get("data_dir") or "").strip("/")
    inside = f"{folder}/" if folder else ""
    if files is None:
        return {}, inside
    if isinstance(files, Mapping):
        files = [{"split": split, "path": path} for split, path in files.items()]
    patterns: dict[str, list[str]] = {}
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping) and "split" in entry and "path" in entry:
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            patterns.setdefault(str(entry["split"]), []).extend(f"{inside}{path}" for path in paths)
    return patterns, ""


def _laid_out(names: Sequence[str], root: str, config: str | None, split: str, suffix: str) -> list[str]:
    for spelling in _SPELLINGS.get(split, (split,)):
        if config is None:
            patterns = [f"{spelling}{suffix}", f"{spelling}-*{suffix}", f"{spelling}/*{suffix}"]
        else:
            patterns = [f"{config}/{spelling}{suffix}", f"{config}/{spelling}-*{suffix}", f"{config}/{spelling}/*{suffix}"]
            patterns += [f"{spelling}/{config}{suffix}", f"{spelling}/{config}-*{suffix}"]
            patterns += [f"{config}{mark}{spelling}{end}{suffix}" for mark in "-_." for end in ("", "-*")]
        for pattern in patterns:
            if files := _matching(names, [root + pattern]):
                return files
    return []


def _matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """The names that match one of the patterns: `*` and `?` within a folder, `**` across folders."""
    matching = []
    for pattern in patterns:
        pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        matches = re.compile("".join(wild.get(piece) or re.escape(piece) for piece in pieces)).fullmatch
        matching += [name for name in names if matches(name)]
    return sorted(set(matching))


def card_licence(folder: Path) -> str:
    """The licence that a snapshot's README.md declares in its YAML header; "" if it declares none."""
    return licence_of(card_header(folder))


def licence_of(card: Mapping[str, Any]) -> str:
    """The licence that a card's header declares; "" if it declares none."""
    licence = card.get("license") or card.get("licence") or ""
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)


def card_header(folder: Path) -> Mapping[str, Any]:
    """The YAML header of a snapshot's README.md; {} if there is none."""
    import yaml

    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    pieces = readme.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(pieces) < 3 or pieces[0].strip():
        return {}
    try:
        header = yaml.load(pieces[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # of the size of MMLU's: 10 times faster
    except yaml.YAMLError:
        return {}
    return header if isinstance(header, Mapping) else {}

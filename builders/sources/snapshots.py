"""Finding the files of a data set's split inside a local copy of its Hub repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from iit_bench.errors import UserError

LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}  # suffix -> builder of `datasets`, best first
_SPELLINGS = {"validation": ("validation", "valid", "val"), "train": ("train", "training")}


def snapshot_folder(data_root: Path, dataset_path: str, wanted_by: str) -> Path:
    """`data_root/<dataset_path>`, or `data_root/<owner>--<name>` and `data_root/<name>`.

    Raises:
        UserError: none of them is there.
    """
    names = (dataset_path, dataset_path.replace("/", "--"), dataset_path.rsplit("/", 1)[-1])
    for name in names:
        if (data_root / name).is_dir():
            return data_root / name
    raise UserError(
        f"{wanted_by} needs the data set {dataset_path!r}, and there is no folder {str(data_root / dataset_path)!r}; put its snapshot there"
    )


def split_files(folder: Path, config: str | None, splits: Iterable[str]) -> tuple[str, dict[str, list[Path]]]:
    """The files of each split that is there, and the `datasets` builder that reads them.

    Layouts, first match wins: `config/split-*`, `config/split/*`, `split/config*`, `config-split*`, with or without a `data` folder around
    them; without a configuration the same with `config` left out, `default`, `main` or `plain_text`.

    Returns:
        ("parquet" | "json" | "csv", {split: files in the order of their names}); ("", {}) where nothing fits.
    """
    roots = [folder, folder / "data"]
    configs = [config] if config else [None, "default", "main", "plain_text"]
    for suffix, loader in LOADERS.items():
        for root in roots:
            for name in configs:
                found = {split: files for split in splits if (files := _files(root, name, split, suffix))}
                if found:
                    return loader, found
    return "", {}


def _files(root: Path, config: str | None, split: str, suffix: str) -> list[Path]:
    for spelling in _SPELLINGS.get(split, (split,)):
        if config is None:
            patterns = [f"{spelling}{suffix}", f"{spelling}-*{suffix}", f"{spelling}/*{suffix}"]
        else:
            inside = [f"{config}/{spelling}{suffix}", f"{config}/{spelling}-*{suffix}", f"{config}/{spelling}/*{suffix}"]
            patterns = [*inside, f"{spelling}/{config}{suffix}", f"{spelling}/{config}-*{suffix}"]
            patterns += [f"{config}{mark}{spelling}{end}{suffix}" for mark in "-_." for end in ("", "-*")]
        for pattern in patterns:
            if files := sorted(path for path in root.glob(pattern) if path.is_file()):
                return files
    return []


def card_licence(folder: Path) -> str:
    """The licence that a snapshot's README.md declares in its YAML header; "" where there is none."""
    import yaml

    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    pieces = readme.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(pieces) < 3 or pieces[0].strip():
        return ""
    try:
        header = yaml.safe_load(pieces[1])
    except yaml.YAMLError:
        return ""
    licence = header.get("license", "") if isinstance(header, Mapping) else ""
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence or "")

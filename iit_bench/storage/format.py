"""Formats, versions and hashes of all folders: what the header of a folder has and how it is checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, described

BENCHMARK_FORMAT = "iit-bench/benchmark"
EXPORT_FORMAT = "iit-bench/export"
RUN_FORMAT = "iit-bench/run"
VERSION = 1  # of all formats; a folder of another version is refused


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash over several files: names and contents, in the order of their names. A single file gives the plain hash of its bytes."""
    ordered = sorted(paths, key=lambda path: path.as_posix())
    if len(ordered) == 1:
        return sha256_file(ordered[0])
    lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_header(folder: Path, name: str, expected: str, what: str, fix: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is not there; {fix}")
    if not path.is_file():
        raise UserError(f"{str(folder)!r} is not {what} (it has no {name}); {fix}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found, version = header["format"], header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} is not a file that iit-bench wrote ({described(error)}); {fix}") from error
    if found != expected:
        raise UserError(f"{str(folder)!r} is not {what} (its {name} says {found!r}); {fix}")
    if version != VERSION:
        raise UserError(
            f"{str(folder)!r} has format version {version}, this iit-bench reads {VERSION}; make it again, or install the one that wrote it"
        )
    if missing := [field for field in needed if field not in header]:
        raise UserError(f"{str(path)!r} lacks {', '.join(missing)}; {fix}")
    return header

"""Formats, versions and hashes of all folders: what the header of a folder has and how it is checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, described

BENCHMARK_FORMAT = "iit-bench/benchmark"
EXPORT_FORMAT = "iit-bench/export"
SNAPSHOTS_FORMAT = "iit-bench/snapshots"
RUN_FORMAT = "iit-bench/run"
RESULTS_FORMAT = "iit-bench/run/results"  # of suite iit
SUITE_RESULTS_FORMAT = "iit-bench/run/suite"  # of the suites text and vqa
ERRORS_FORMAT = "iit-bench/run/errors"
ATTENTION_FORMAT = "iit-bench/attention"  # of what was observed of a model

# Versions that are read, the last of which is written; a folder of any other version is refused.
# Runs, 2: what decides is a field of results.json (1 had it in texts).
# 3, of results: forgetting is base minus run (1 and 2 had run minus base), scores exist only over all tiers of the benchmark, intervals
# count histories. Of folders whose results have an earlier version, figures are recomputed from the table of predictions or items.
# Benchmarks, 2: questions have `prefix_choices` (1 has no such question).
VERSIONS: dict[str, tuple[int, ...]] = {
    BENCHMARK_FORMAT: (1, 2),
    EXPORT_FORMAT: (1,),
    SNAPSHOTS_FORMAT: (1,),
    RUN_FORMAT: (1, 2),
    RESULTS_FORMAT: (1, 2, 3),
    SUITE_RESULTS_FORMAT: (1, 2, 3),
    ERRORS_FORMAT: (1, 2),
    ATTENTION_FORMAT: (1,),
}


def written_version(of: str) -> int:
    """The version of a format that is written."""
    return VERSIONS[of][-1]


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pretty_json(value: Any) -> str:
    """Indented JSON that ends in a line break, non-ASCII characters as they are. Raises ValueError for NaN and infinities."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash over several files: names and contents, in the order of their names. A single file gives the plain hash of its bytes."""
    ordered = sorted(paths, key=lambda path: path.as_posix())
    if len(ordered) == 1:
        return sha256_file(ordered[0])
    lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_header(folder: Path, name: str, expected: str, what: str, fix: str) -> dict[str, Any]:
    """A folder's JSON file, checked for its format and its version.

    Args:
        expected: the format, a key of `VERSIONS`.
        what, fix: for the message: what the folder should be, and how to get one.

    Raises:
        UserError: it is not there, was not written by iit-bench, has another format or version.
    """
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is not there; {fix}")
    if not path.is_file():
        raise UserError(f"{str(folder)!r} is not {what} (it has no {name}); {fix}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        format_there, version = header["format"], header["version"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not a file that iit-bench wrote ({described(error)}); {fix}") from error
    if format_there != expected:
        raise UserError(f"{str(folder)!r} is not {what} (its {name} says {format_there!r}); {fix}")
    if version not in VERSIONS[expected]:
        known = " and ".join(map(str, VERSIONS[expected]))
        raise UserError(
            f"{str(folder)!r} has format version {version}, this iit-bench reads {known}; make it again, or install the one that wrote it"
        )
    return header

"""Formats, versions and hashes of all folders: what the header of a folder has and how it is checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from iit_bench.errors import UserError, described
from iit_bench.storage.atomic import Content
from iit_bench.storage.seals import SEAL, is_whole, sealed

BENCHMARK_FORMAT = "iit-bench/benchmark"
EXPORT_FORMAT = "iit-bench/export"
SNAPSHOTS_FORMAT = "iit-bench/snapshots"
RUN_FORMAT = "iit-bench/run"
RESULTS_FORMAT = "iit-bench/run/results"  # of suite iit
SUITE_RESULTS_FORMAT = "iit-bench/run/suite"  # of the suites text and vqa
ERRORS_FORMAT = "iit-bench/run/errors"
ATTENTION_FORMAT = "iit-bench/attention"  # of what was observed of a model
TRAINING_FORMAT = "iit-bench/training"  # of a trained model's card

# Versions that are read, the last of which is written; a folder of any other version is refused.
# Runs, 2: what decides is a field of results.json (1 had it in texts).
# 3, of results: forgetting is base minus run (1 and 2 had run minus base), scores exist only over all tiers of the benchmark, intervals
# count histories. Of folders whose results have an earlier version, figures are recomputed from the table of predictions or items.
# Benchmarks, 2: questions have `prefix_choices` (1 has no such question).
# `_SEALED` has the first version of each that has a seal (seals.py), which is all that is new in it.
VERSIONS: dict[str, tuple[int, ...]] = {
    BENCHMARK_FORMAT: (1, 2, 3),
    EXPORT_FORMAT: (1, 2),
    SNAPSHOTS_FORMAT: (1, 2),
    RUN_FORMAT: (1, 2, 3),
    RESULTS_FORMAT: (1, 2, 3, 4),
    SUITE_RESULTS_FORMAT: (1, 2, 3, 4),
    ERRORS_FORMAT: (1, 2, 3),
    ATTENTION_FORMAT: (1, 2),
    TRAINING_FORMAT: (1,),
}
_SEALED = {
    BENCHMARK_FORMAT: 3,
    EXPORT_FORMAT: 2,
    SNAPSHOTS_FORMAT: 2,
    RUN_FORMAT: 3,
    RESULTS_FORMAT: 4,
    SUITE_RESULTS_FORMAT: 4,
    ERRORS_FORMAT: 3,
    ATTENTION_FORMAT: 2,
    TRAINING_FORMAT: 1,
}


def written_version(of: str) -> int:
    """The version of a format that is written."""
    return VERSIONS[of][-1]


def has_seal(of: str, version: int) -> bool:
    """Whether files of this version of a format are sealed."""
    return version >= _SEALED[of]


def sealed_json(of: str, body: Mapping[str, Any]) -> str:
    """The text of a JSON file: the format `of` and its written version, then `body`, then the seal.

    Raises ValueError for NaN and infinities.
    """
    first = {"format": of, "version": written_version(of)}
    return pretty_json(sealed(first | {name: value for name, value in body.items() if name not in first}))


def opened(content: Any, path: Path, expected: str, fix: str, what: str = "") -> dict[str, Any]:
    """What a JSON file of ours holds, without its seal, after its format, version and seal were checked.

    Args:
        content: the file's JSON.
        path: of the file, for the message.
        expected: the format, a key of `VERSIONS`.
        fix, what: for the message: how to get such a file, and what its folder should be.

    Raises:
        UserError: it was not written by iit-bench, has another format or version, or was changed after it was written.
    """
    try:
        format_there, version = content["format"], content["version"]
    except (TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} is not a file that iit-bench wrote ({described(error)}); {fix}") from error
    if format_there != expected:
        raise UserError(f"{str(path.parent)!r} is not {what or 'what is needed'} (its {path.name} says {format_there!r}); {fix}")
    if version not in VERSIONS[expected] or isinstance(version, bool | float):
        known = " and ".join(map(str, VERSIONS[expected]))
        raise UserError(
            f"{str(path.parent)!r} has format version {version}, this iit-bench reads {known}; make it again, or install the one that "
            "wrote it"
        )
    if not is_whole(content) or (SEAL not in content and has_seal(expected, version)):
        raise UserError(f"{str(path)!r} was changed after it was written (its seal differs); put back what was there, or {fix}")
    return {name: value for name, value in content.items() if name != SEAL}


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pretty_json(value: Any) -> str:
    """Indented JSON that ends in a line break, non-ASCII characters as they are. Raises ValueError for NaN and infinities."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def hashed(files: Iterable[tuple[str, Content]], hashes: dict[str, str]) -> Iterator[tuple[str, Content]]:
    """Files for `atomic.save_folder`, the sha256 of each of which is in `hashes` once it is written."""
    for name, content in files:

        def write(file: BinaryIO, name: str = name, content: Content = content) -> None:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            hashes[name] = sha256_file(Path(file.name))

        yield name, write


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash over several files: names and contents, in the order of their names. A single file gives the plain hash of its bytes."""
    ordered = sorted(paths, key=lambda path: path.as_posix())
    if len(ordered) == 1:
        return sha256_file(ordered[0])
    lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_header(folder: Path, name: str, expected: str, what: str, fix: str) -> dict[str, Any]:
    """A folder's JSON file, checked for its format, its version and its seal.

    Args:
        expected: the format, a key of `VERSIONS`.
        what, fix: for the message: what the folder should be, and how to get one.

    Raises:
        UserError: it is not there, was not written by iit-bench, has another format or version, or was changed.
    """
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is {'a file, not a folder' if folder.exists() else 'not there'}; {fix}")
    if not path.is_file():
        raise UserError(f"{str(folder)!r} is not {what} (it has no {name}); {fix}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not a file that iit-bench wrote ({described(error)}); {fix}") from error
    return opened(content, path, expected, fix, what)

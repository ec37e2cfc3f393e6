"""The response logs of a run as `iit-bench verify` checks them: the checksums of their lines, and that no request has two answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iit_bench.engine import lines


def check_log(path: Path, answers: dict[bytes, bytes], paths: Sequence[Path], finished: bool) -> bool:
    """Go through one log once, and return whether it has answers without a checksum.

    Args:
        path: of the log.
        answers: digests of keys and of answers of the logs before, added to: 130 bytes per request however long an answer is.
        paths: all logs of the run.
        finished: the run is, so that no line may be torn.

    Raises:
        UserError: a line is damaged.
        ValueError: the last line is torn, or a request has two answers.
    """
    reader, bare = lines.LogReader(path), False
    for entry in reader.entries():
        if isinstance(entry.outcome, lines.Failure | lines.Split):
            continue
        bare |= not entry.checked
        line = _digest(lines.entry_line(entry.key, entry.outcome))
        if answers.setdefault(lines.key_digest(entry.key), line) != line:
            _contradiction(path, entry, paths)
    if finished and path.stat().st_size > reader.end:
        raise ValueError("its last line is torn or was changed")
    return bare


def check_kept(answers: Iterable[bytes], logged: Mapping[str, Any]) -> None:
    """Compare the answers of a finished run's logs with those that it had when it ended.

    Args:
        answers: digests of their keys, as `check_log` collects them.
        logged: of run.json.

    Raises:
        ValueError: some are gone, or others are there.
    """
    keys = list(answers)
    if len(keys) != logged["answers"]:
        raise ValueError(f"it has {len(keys):,} of the {logged['answers']:,} answers that the run had when it ended")
    if lines.digest_of_keys(keys) != logged["keys"]:
        raise ValueError("its answers are to other requests than the run had made when it ended")


def _contradiction(path: Path, entry: lines.Entry, paths: Sequence[Path]) -> None:
    """Find the other answer to a request, which is spelled differently.

    Raises:
        ValueError: it is another.
    """
    for before in filter(Path.is_file, paths):
        for other in lines.LogReader(before).entries():
            if before == path and other.line == entry.line:
                return
            if other.key == entry.key and isinstance(other.outcome, lines.Response) and other.outcome != entry.outcome:
                raise ValueError(f"line {other.line} of {before.name} and line {entry.line} of {path.name} answer one request differently")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:16]

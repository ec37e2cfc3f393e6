"""Seals: checksums in JSON files and in the lines of logs, so that a value that was changed is seen when it is read.

A file has the field `seal` at its end: the sha256, in hexadecimal, of the content without that field as canonical JSON
(`tables.canonical_json`), so that a tool that only formats a file anew leaves it whole. Files of versions before seals have none;
`format.read_header` says which have to have one. A line of a log has `check`: the first 16 hexadecimal digits of the sha256 of its bytes
before `,"check":`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from iit_bench.storage.tables import canonical_json

SEAL = "seal"
_CHECK, _DIGITS = b',"check":"', 16


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with its seal, which is the last field. Raises ValueError for NaN and infinities."""
    content = {name: value for name, value in body.items() if name != SEAL}
    return content | {SEAL: _seal_of(json.loads(json.dumps(content)))}  # as it will be read: keys are texts, tuples are lists


def is_whole(body: Mapping[str, Any]) -> bool:
    """Whether the content that was read from a JSON file is what was sealed; of one without a seal, that nothing says otherwise."""
    if SEAL not in body:
        return True
    try:
        return _seal_of({name: value for name, value in body.items() if name != SEAL}) == body[SEAL]
    except (ValueError, RecursionError):  # NaN or an infinity, which Python reads from JSON; nested too deeply
        return False


def _seal_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def sealed_line(body: Mapping[str, Any]) -> bytes:
    """The content of a log's line as canonical JSON with its checksum, and a line break. Raises ValueError for NaN and infinities."""
    text = canonical_json(body).encode()[:-1]
    return text + _CHECK + _check_of(text) + b'"}\n'


def opened_line(line: bytes) -> tuple[Any, bool]:
    """What a line of a log holds, without its line break, and whether it has a checksum, which is right then.

    Raises:
        ValueError: its checksum is wrong, or it is no JSON.
    """
    start = max(len(line) - len(_CHECK) - _DIGITS - 2, 0)
    has_check = line[start : start + len(_CHECK)] == _CHECK
    if has_check and line[start + len(_CHECK) : -2] != _check_of(line[:start]):
        raise ValueError("its checksum is wrong")
    try:
        return json.loads(line), has_check
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def _check_of(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()

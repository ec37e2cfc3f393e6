"""Data of the explorer as classic scripts: what a page from disk may load (it cannot fetch, and has no modules).

A script is one call, `iitData(NAME, DATA)`, where DATA is JSON, packed by gzip and written in base64. Texts are data all the way: the page
puts them into the document as text only.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

CHUNK_CHARACTERS = 1_500_000  # of JSON in one script; a chunk ends with the entry that reaches this
CHUNK_ENTRIES = 1000
TEXT_CHARACTERS = 200_000  # of one text; what is longer is cut, and the number of characters that are not shown is
Put = Callable[[str, bytes], None]  # takes a file's name below samples/ and its content


def script(name: str, value: Any) -> bytes:
    """The content of a script that gives the page `value` under `name`."""
    return _script(name, _json(value))


def _script(name: str, text: str) -> bytes:
    packed = base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)).decode("ascii")
    return f'iitData("{name}","{packed}");\n'.encode("ascii")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def put_script(put: Put, name: str, value: Any) -> None:
    """Write a script to data/NAME.js."""
    put(f"data/{name}.js", script(name, value))


class Chunks:
    """A sequence of entries, cut into scripts NAME-0, NAME-1, … that the page loads when it needs one.

    `starts` has the place of each script's first entry; it is complete once `end` was called.
    """

    def __init__(self, put: Put, name: str) -> None:
        self._put, self._name = put, name
        self._entries: list[str] = []
        self._characters = self._count = 0
        self.starts: list[int] = []

    def add(self, entry: Any) -> None:
        """Append an entry of JSON values."""
        text = _json(entry)
        self._entries.append(text)
        self._characters += len(text)
        if self._characters >= CHUNK_CHARACTERS or len(self._entries) == CHUNK_ENTRIES:
            self._write()

    def end(self) -> list[int]:
        """Write what is left, and return `starts`."""
        if self._entries or not self.starts:
            self._write()
        return self.starts

    def _write(self) -> None:
        name = f"{self._name}-{len(self.starts)}"
        self._put(f"data/{name}.js", _script(name, "[" + ",".join(self._entries) + "]"))
        self.starts.append(self._count)
        self._count += len(self._entries)
        self._entries, self._characters = [], 0


def short(text: str) -> str | list[Any]:
    """A text as the page takes it: itself, or its beginning and the number of characters that were cut off."""
    return text if len(text) <= TEXT_CHARACTERS else [text[:TEXT_CHARACTERS], len(text) - TEXT_CHARACTERS]


def numbers(values: Sequence[float]) -> list[float | None]:
    """Log-probabilities with four decimals; what is not finite has no number."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]

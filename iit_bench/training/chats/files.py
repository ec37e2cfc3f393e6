"""Files of records, read one record at a time by its number: JSON, JSON Lines, parquet, and folders of them.

Of a large file only where each record begins is held in memory. Parquet is read through `datasets`, which keeps a copy that is mapped into
memory under HF_HOME.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from iit_bench.data import snapshots
from iit_bench.errors import ItemError, UserError, one_line
from iit_bench.training.chats import hub
from iit_bench.training.records import LAB, Part

ARCHIVES = (".zip",)
SUFFIXES = (".json", ".jsonl", ".parquet")
NO_RECORD = "not a JSON object"
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)  # strings, and the brackets outside them
_BLANK = b" \t\r\n\xef\xbb\xbf"  # and a byte-order mark


class Records(Protocol):
    """Records of one source, in an order that never changes."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Mapping[str, Any]:
        """Record `number`, 0-based.

        Raises:
            ItemError: it is not a JSON object.
        """

    def name(self, number: int) -> str:
        """What a person finds record `number` by, e.g. "train.json record 17"."""


class JsonRecords(Records):
    """The objects of one JSON array, or of the lines of JSON Lines."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.open("rb")
        self._bytes: Any = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        spans = _lines(self._bytes) if path.suffix == ".jsonl" else _elements(self._bytes, path)
        self._places = array("Q", (place for span in spans for place in span))  # begin and end of each record, in bytes

    def __len__(self) -> int:
        return len(self._places) // 2

    def read(self, number: int) -> Mapping[str, Any]:
        """See `Records`."""
        begin, end = self._places[2 * number], self._places[2 * number + 1]
        try:
            record = json.loads(self._bytes[begin:end])
        except (ValueError, RecursionError) as error:
            raise ItemError(NO_RECORD, one_line(error)) from None
        if not isinstance(record, dict):
            raise ItemError(NO_RECORD, f"it is {type(record).__name__}")
        return record

    def name(self, number: int) -> str:
        """See `Records`."""
        return f"{self.path.name} record {number}"


class ParquetRecords(Records):
    """Rows of parquet files; images stay the bytes that they are in the file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        import datasets

        bars = datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            self._table = datasets.Dataset.from_parquet([str(path) for path in paths]).with_format("arrow")
        except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
            cause = error.__cause__ or error
            raise UserError(f"{paths[0]}: is no parquet file that can be read ({one_line(cause)}); download or write it again") from None
        finally:
            if not bars:
                datasets.enable_progress_bars()
        self._label = paths[0].name if len(paths) == 1 else f"{paths[0].parent.name}/"

    def __len__(self) -> int:
        return len(self._table)

    def read(self, number: int) -> Mapping[str, Any]:
        """See `Records`."""
        row: Mapping[str, Any] = self._table[number].to_pylist()[0]
        return row

    def name(self, number: int) -> str:
        """See `Records`."""
        return f"{self._label} row {number}"


class Joined(Records):
    """Several files of records, one after the other."""

    def __init__(self, parts: Sequence[Records]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def read(self, number: int) -> Mapping[str, Any]:
        """See `Records`."""
        part, number = self._of(number)
        return part.read(number)

    def name(self, number: int) -> str:
        """See `Records`."""
        part, number = self._of(number)
        return part.name(number)

    def _of(self, number: int) -> tuple[Records, int]:
        for part in self._parts:
            if number < len(part):
                return part, number
            number -= len(part)
        raise IndexError(number)


def located(source: str, split: str, subset: str = "", revision: str = "") -> tuple[list[Path], str]:
    """The files of a source as `paths_of`, or, of `hf:…`, in the Hub's cache; and the commit that these are of.

    Raises:
        UserError: there are none.
    """
    if not source.startswith(hub.HUB):
        return paths_of(source, split, subset), ""
    place = hub.parse(source)
    return hub.files_of(place, place.split or split, place.subset or subset, SUFFIXES, revision)


def is_here(part: Part) -> bool:
    """Whether a source of a mixture, and its images, can be read without downloading them."""
    archive = part.images.startswith(hub.HUB) and not hub.is_cached(hub.parse(part.images), "", "", ARCHIVES)
    if archive or not part.source.startswith(hub.HUB):
        return not archive
    place = hub.parse(part.source)
    return hub.is_cached(place, place.split or part.split, place.subset or part.subset, SUFFIXES)


def check_places(mixture: Sequence[Part]) -> list[str]:
    """Look for the files that the parts of a mixture name on this machine, and open none.

    Returns:
        A sentence for each part that is on the Hub and whose images are not here: it may be planned before they are.

    Raises:
        UserError: a part's own file is missing, or its images are.
    """
    missing = []
    for part in mixture:
        is_own = not part.source.startswith((LAB, hub.HUB))
        if is_own:
            paths_of(part.source, part.split, part.subset)
        if part.images.startswith(hub.HUB):
            continue
        try:
            images_of(part)
        except UserError as error:
            if is_own:
                raise
            missing.append(f"on this machine the training would end: {error}")
    return missing


def images_of(part: Part) -> Path | None:
    """The folder or .zip file that a part names for its images, of `hf:…` in the Hub's cache; None where it names none.

    Raises:
        UserError: it is not there.
    """
    if part.images.startswith(hub.HUB):
        return hub.files_of(hub.parse(part.images), "", "", ARCHIVES)[0][0]
    path = Path(part.images).expanduser()
    if part.images and not path.exists():
        raise UserError(f"{part.images}: there is no such folder or .zip file; set images in data.mixture to where the images are")
    return path if part.images else None


def paths_of(source: str, split: str, subset: str = "") -> list[Path]:
    """The files of a source: one file, or those of a split in a folder laid out as on the Hub.

    Raises:
        UserError: there is no such file, or the folder has none of the split.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        _, found = snapshots.split_files(path, subset or None, [split])
        files = [file for file in found.get(split, []) if file.suffix in SUFFIXES]
        if not files:
            of = f" of subset {subset!r}" if subset else ""
            raise UserError(f"{path}: has no {', '.join(SUFFIXES)} file of split {split!r}{of}; name a file, or set split and subset")
        return files
    if not path.is_file():
        raise UserError(f"{path}: there is no such file or folder; set source in data.mixture to your data")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: must end in {', '.join(SUFFIXES)}; write the records in one of these formats")
    return [path]


def open_records(paths: Sequence[Path]) -> Records:
    """The records of some files.

    Raises:
        UserError: a file is damaged as a whole.
    """
    if paths[0].suffix == ".parquet":
        return ParquetRecords(paths)
    parts = [JsonRecords(path) for path in paths]
    return parts[0] if len(parts) == 1 else Joined(parts)


def sha256_of(paths: Sequence[Path]) -> str:
    """Hash of the files' bytes in their order."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _lines(text: Any) -> Iterator[tuple[int, int]]:
    """Begin and end of each line that is not blank."""
    begin, size = 0, len(text)
    while begin < size:
        end = text.find(b"\n", begin)
        end = size if end < 0 else end
        if text[begin:end].strip():
            yield begin, end
        begin = end + 1


def _elements(text: Any, path: Path) -> Iterator[tuple[int, int]]:
    """Begin and end of each object of a JSON array.

    Raises:
        UserError: the file is not one array of objects.
    """
    depth, begin, end, count = 0, 0, 0, 0  # end: of the last record, or of the bracket that opens the array
    closed = False
    for found in _STRUCTURE.finditer(text):
        token, place = found.group(), found.start()
        if depth <= 1:  # outside the records: brackets of the array, and a comma before each record but the first
            between = bytes(text[end:place]).strip(_BLANK)
            allowed = (b"{", b"]") if depth else (b"[",)
            if closed or token not in allowed or between != (b"," if count and token == b"{" else b""):
                raise _no_array(path, place)
        if token in (b"{", b"["):
            begin, end = (place, end) if depth == 1 else (begin, place + 1 if depth == 0 else end)
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 1:
                yield begin, place + 1
                end, count = place + 1, count + 1
            elif depth == 0:
                closed, end = True, place + 1
    if not closed or bytes(text[end:]).strip(_BLANK):
        raise _no_array(path, len(text))


def _no_array(path: Path, place: int) -> UserError:
    return UserError(
        f"{path}: is not one JSON array of objects (near byte {place}); write [{{…}}, {{…}}], or one object per line as .jsonl"
    )

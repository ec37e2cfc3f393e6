"""The images of a table's rows: cells that hold or name them, and marks that place them in a question's text."""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from builders.sources.base import StoredImage
from builders.sources.columns import as_list
from iit_bench.errors import UserError
from iit_bench.images import is_readable
from iit_bench.storage.inside import OutsideError, file_inside
from iit_bench.types import IMAGE_MARK, Image

MARK = re.compile(r"<image (\d+)>")  # MMMU's, numbered from 1
LONGEST_PATH = 1024  # characters; a longer text is no path


def listed(cell: str) -> list[str]:
    """The strings of a cell that may be the text of a Python list."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    try:
        strings = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return [cell]
    return [str(item) for item in strings]


def decoded(cell: str) -> list[bytes]:
    """Bytes of the images of a cell with base64 or a list of it; empty for an image that is not base64."""
    return [from_base64(text) or b"" for text in listed(cell)]


def from_base64(text: str, strict: bool = False) -> bytes | None:
    """The bytes behind base64 or a data URL; None if it is neither. `strict`: letters outside base64's are refused, not skipped."""
    try:
        return base64.b64decode(text.split(",", 1)[1] if text.startswith("data:") else text, validate=strict)
    except (binascii.Error, IndexError, ValueError):
        return None


def inside(folder: Path, name: str) -> Path | None:
    """The file called `name` below a folder; None if there is none.

    Raises:
        UserError: the path leaves the folder. A table that somebody else made must not read other files of this machine.
    """
    try:
        return file_inside(folder, name)
    except OutsideError as error:
        if "\0" in name:  # no name that a file can have
            return None
        raise UserError(
            f"the table names the image {name!r}, outside its folder {str(folder)!r}; put the images below the table's folder"
        ) from error


def stored(images: Sequence[bytes], read: Callable[[int], bytes]) -> tuple[StoredImage, ...] | None:
    """Images whose bytes `read(position)` reads again; None if one cannot be decoded."""
    if not all(is_readable(Image(data)) for data in images):
        return None
    return tuple(StoredImage(hashlib.sha256(data).hexdigest(), partial(read, i)) for i, data in enumerate(images))


def of_file(path: Path) -> tuple[StoredImage, ...] | None:
    """The image in a file, read again when it is used; None if it cannot be decoded."""
    return stored([path.read_bytes()], partial(_read, path))


def _read(path: Path, position: int) -> bytes:
    return path.read_bytes()


def marked(text: str, images: tuple[Image, ...]) -> tuple[str, tuple[Image, ...]] | None:
    """MMMU's `<image k>` marks as this project's: one mark per image, images in the order of the marks, those without a mark first.

    None if a mark has no image.
    """
    numbers = [int(number) - 1 for number in MARK.findall(text)]
    if not numbers:
        return text, images
    if not all(0 <= number < len(images) for number in numbers):
        return None
    unmarked = [i for i in range(len(images)) if i not in numbers]
    front = "".join(f"{IMAGE_MARK}\n" for _ in unmarked)
    return front + MARK.sub(IMAGE_MARK, text), tuple(images[i] for i in (*unmarked, *numbers))


def images_sha256(images: Sequence[Image]) -> str:
    """sha256 of one image, or one over those of several; "" for none."""
    hashes = [image.sha256 for image in images]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest() if hashes else ""


class Spool:
    """A temporary file that keeps images which lie inside a table, each once, so that a table of many gigabytes is not held in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as its images are used
        self._stored: dict[str, StoredImage | None] = {}  # sha256 → the image; None = it cannot be decoded

    def add(self, data: bytes) -> StoredImage | None:
        """The image, whose bytes are read from the file when they are used; None if it cannot be decoded."""
        image = Image(data)
        if image.sha256 not in self._stored:
            readable = is_readable(image)
            self._stored[image.sha256] = StoredImage(image.sha256, self._keep(data)) if readable else None
        return self._stored[image.sha256]

    def _keep(self, data: bytes) -> Callable[[], bytes]:
        start = self._file.seek(0, 2)
        self._file.write(data)

        def read() -> bytes:
            self._file.seek(start)
            return self._file.read(len(data))

        return read


class CellReader:
    """Turns the image cells of a table into images.

    A cell is bytes, a path below the table's folder, base64, a data URL, an Image of `datasets` ({"bytes", "path"}), a list of these, or
    the text of such a list; None or "" for no image.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._spool = folder, Spool()

    def images(self, cell: Any) -> tuple[StoredImage, ...] | None:
        """The images of a cell; None if one is missing or cannot be decoded.

        Raises:
            UserError: a path that leaves the table's folder, or a web address.
        """
        items = as_list(cell)
        images: list[StoredImage] = []
        for item in [cell] if items is None else items:
            if item is None or item == "":
                continue
            image = self._image(item)
            if image is None:
                return None
            images += image
        return tuple(images)

    def _image(self, item: Any) -> tuple[StoredImage, ...] | None:
        if isinstance(item, Mapping):
            item = item.get("bytes") or item.get("path")
        if isinstance(item, bytes):
            image = self._spool.add(item)
            return None if image is None else (image,)
        if not isinstance(item, str) or not item.strip():
            return None
        text = item.strip()
        if text.startswith(("http://", "https://")):
            raise UserError(f"the table names the image {text[:80]!r} by its address; download the images and name their paths")
        data = from_base64("".join(text.split()), strict=True)
        image = self._spool.add(data) if data else None  # before paths: the base64 of a JPEG file begins like an absolute path
        if image is not None:
            return (image,)
        path = inside(self._folder, text) if len(text) <= LONGEST_PATH and not text.startswith("data:") else None
        return of_file(path) if path else None

"""The images of records: found inside their folder, checked by their header, read when they are trained on."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from iit_bench import images
from iit_bench.errors import ItemError, UserError, one_line
from iit_bench.storage.inside import OutsideError, inside
from iit_bench.training.chats.schemas import Picture
from iit_bench.types import Image

MISSING = "image missing"
OUTSIDE = "image outside its folder"
HEADER = 1 << 16  # bytes that hold the header of nearly every picture


@dataclass(frozen=True)
class Folder:
    """Where the images of one source are.

    Attributes:
        path: paths in records are relative to it and stay inside it.
        max_pixels: of one image, padded to a square as Wings reads it.
    """

    path: Path
    max_pixels: int

    def load(self, picture: Picture) -> Image:
        """The bytes of an image.

        Raises:
            ItemError: missing, or outside the folder.
        """
        return Image(picture.data if picture.data is not None else self._read(picture))

    def check(self, picture: Picture, pixels: bool = False) -> None:
        """Check an image's header, or, with `pixels`, that it decodes to the last one.

        Raises:
            ItemError: missing, outside the folder, unreadable or too large.
        """
        try:
            if pixels:
                with images.opened(self.load(picture).data, self.max_pixels, square=True) as opened:
                    images.as_rgb(opened)
                return
            try:
                self._open(picture.data[:HEADER] if picture.data is not None else self._read(picture, HEADER))
            except images.UnreadableImageError:  # a header may lie behind what was read
                self._open(self.load(picture).data)
        except images.UnreadableImageError as error:
            raise ItemError(images.UNREADABLE, f"{picture.path[:200] or 'in the record'}: {error}") from error

    def _open(self, data: bytes) -> None:
        with images.opened(data, self.max_pixels, square=True):
            pass

    def _read(self, picture: Picture, most: int = -1) -> bytes:
        """The first bytes of an image's file; all of them without `most`."""
        try:
            with self._inside(picture).open("rb") as file:
                return file.read(most)
        except (OSError, ValueError):
            raise ItemError(MISSING, picture.path[:200]) from None

    def _inside(self, picture: Picture) -> Path:
        try:
            path = inside(self.path, picture.path)
        except OutsideError:
            raise ItemError(OUTSIDE, picture.path[:200]) from None
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise ItemError(MISSING, f"{picture.path[:200]} is no file")
        return path


class Archive(Folder):
    """A .zip file in place of a folder, which is not unpacked."""

    def _read(self, picture: Picture, most: int = -1) -> bytes:
        try:
            with self._members.open(picture.path) as file:
                return file.read(most)
        except KeyError:
            raise ItemError(MISSING, picture.path[:200]) from None
        except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise ItemError(images.UNREADABLE, f"{picture.path[:200]}: {one_line(error)}") from None

    @cached_property
    def _members(self) -> Any:
        return _open_archive(self.path)


def images_in(path: Path, max_pixels: int) -> Folder:
    """The images of a folder, or of a .zip file.

    Raises:
        UserError: the .zip file cannot be read.
    """
    if path.suffix != ".zip" or not path.is_file():
        return Folder(path, max_pixels)
    archive = Archive(path, max_pixels)
    assert archive._members is not None  # its directory is read here
    return archive


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is no .zip file that can be read ({one_line(error)}); download or write it again") from None


class Unread(Image):
    """An image of a record, whose file is read when its bytes are first asked for: each process reads those of its own rows.

    Attributes:
        name: the record, and the image's path in it.
    """

    def __init__(self, folder: Folder, picture: Picture, record: str) -> None:
        self.name = f"{record}: {picture.path[:200]}" if picture.path else record
        self._folder, self._picture, self._record = folder, picture, record

    @cached_property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes of its file.

        Raises:
            UserError: it is gone since the check.
        """
        try:
            return self._folder.load(self._picture).data
        except ItemError as error:
            raise UserError(f"{self._record}: {error}, though it was there when it was checked; put it back and resume") from None

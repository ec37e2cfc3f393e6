"""The images of records: found inside their folder, checked by their header, read when they are trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from iit_bench import images
from iit_bench.errors import ItemError
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
        max_pixels: of one image.
    """

    path: Path
    max_pixels: int

    def load(self, picture: Picture) -> Image:
        """The bytes of an image.

        Raises:
            ItemError: missing, or outside the folder.
        """
        if picture.data is not None:
            return Image(picture.data)
        try:
            return Image(self._inside(picture).read_bytes())
        except (OSError, ValueError):
            raise ItemError(MISSING, picture.path[:200]) from None

    def check(self, picture: Picture, pixels: bool = False) -> None:
        """Check an image's header, or, with `pixels`, that it decodes to the last one.

        Raises:
            ItemError: missing, outside the folder, unreadable or too large.
        """
        if pixels:
            images.decode_item(self.load(picture), self.max_pixels)
            return
        if picture.data is None:
            try:
                with self._inside(picture).open("rb") as file:
                    head = file.read(HEADER)
            except (OSError, ValueError):
                raise ItemError(MISSING, picture.path[:200]) from None
        else:
            head = picture.data[:HEADER]
        try:
            self._open(head)
        except images.UnreadableImageError:  # a header may lie behind what was read
            whole = self.load(picture)
            with images.of_item(whole):
                self._open(whole.data)

    def _open(self, data: bytes) -> None:
        with images.opened(data, self.max_pixels):
            pass

    def _inside(self, picture: Picture) -> Path:
        folder = os.path.abspath(self.path)
        path = os.path.normpath(os.path.join(folder, picture.path))
        if not picture.path or not path.startswith(os.path.join(folder, "")):
            raise ItemError(OUTSIDE, picture.path[:200])
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for without end
            raise ItemError(MISSING, f"{picture.path[:200]} is no file")
        return Path(path)

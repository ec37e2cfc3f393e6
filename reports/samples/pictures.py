"""The pictures of a benchmark as files of the explorer, each once, at most as large as a screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iit_bench.images import UnreadableImageError, decode, encode, opened, portable
from iit_bench.types import Image
from reports.samples.scripts import Put

LONGEST = 1600  # pixels of a side
LARGEST = 4 << 20  # bytes of a file that is kept as it is
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}  # what every browser shows

Shown = tuple[str, int, int]  # file below samples/, width and height in pixels; ("", 0, 0) for one that cannot be shown


class Pictures:
    """Writes pictures as they are asked for.

    Args:
        folder: of the explorer. A picture that an earlier report left there is not made again, unless `keep` refuses it.
        put: takes the files.
        keep: takes the name and content of a file that is there already; False if it is not as a report wrote it.
    """

    def __init__(self, folder: Path, put: Put, keep: Callable[[str, bytes], bool]) -> None:
        self._folder, self._put, self._keep = folder, put, keep
        self._shown: dict[str, Shown] = {}
        self.unreadable = 0

    def shown(self, image: Image) -> Shown:
        """The file of a picture."""
        if image.sha256 not in self._shown:
            self._shown[image.sha256] = self._earlier(image.sha256) or self._made(image)
        return self._shown[image.sha256]

    def _earlier(self, sha256: str) -> Shown | None:
        for suffix in SUFFIXES.values():
            name = _name(sha256, suffix)
            if (self._folder / name).is_file():
                data = (self._folder / name).read_bytes()
                try:
                    with opened(data) as picture:
                        width, height = picture.size
                except UnreadableImageError:
                    return None
                if self._keep(name, data):
                    return name, width, height
        return None

    def _made(self, image: Image) -> Shown:
        try:
            data, kind = portable(image, tuple(SUFFIXES))
            with opened(data) as picture:
                width, height = picture.size
            if max(width, height) > LONGEST or len(data) > LARGEST:
                smaller = decode(data)
                smaller.thumbnail((LONGEST, LONGEST))
                data, kind, (width, height) = encode(smaller, "JPEG", quality=88), "JPEG", smaller.size
        except UnreadableImageError:
            self.unreadable += 1
            return "", 0, 0
        name = _name(image.sha256, SUFFIXES[kind])
        self._put(name, data)
        return name, width, height


def _name(sha256: str, suffix: str) -> str:
    return f"images/{sha256[:20]}.{suffix}"

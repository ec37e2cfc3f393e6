"""Paths that data name: images of a table or record, files of a listing or manifest. Each leads to a place below its root, or is refused.

What somebody else wrote must not make this program read, publish or remove other files of this machine.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


class OutsideError(ValueError):
    """A path leads out of the folder that it belongs to."""


def inside(root: Path, name: str) -> Path:
    """The real path of what `name` names below `root`, whether it is there or not. Links are followed, also that of `root` itself.

    Of a repository in the Hub's cache, whose files are links into the folder `blobs` beside its snapshots, that folder counts as well.

    Args:
        root: a folder.
        name: a path in it, or an absolute one.

    Raises:
        OutsideError: it leads elsewhere, or is no name that a file can have.
    """
    try:
        path = Path(os.path.realpath(root / name))
        if any(path != one and path.is_relative_to(one) for one in _roots(root)):
            return path
    except (OSError, ValueError) as error:  # a null character
        raise OutsideError(f"{name!r} is no name of a file") from error
    raise OutsideError(f"{name!r} leads out of {str(root)!r}")


def file_inside(root: Path, name: str) -> Path | None:
    """The real path of the file called `name` below `root`; None if there is none.

    Raises:
        OutsideError: as `inside`.
    """
    path = inside(root, name)
    try:
        return path if path.is_file() else None
    except OSError:  # a name that is too long
        return None


def file_beside(path: Path, name: str) -> Path | None:
    """The file called `name` in the folder of another; None if there is none, as for a name that no file can have."""
    try:
        file = path.with_name(name)
        return file if file.is_file() else None
    except (OSError, ValueError):  # too long; a slash, a null character
        return None


def stays_inside(name: str) -> bool:
    """Whether a path with "/", as servers and manifests give it, lies below its folder by its words; says nothing of links."""
    return not PurePosixPath(name).is_absolute() and not {"..", ".", ""} & set(name.split("/")) and not {"\\", "\0"} & set(name)


def _roots(root: Path) -> list[Path]:
    real = Path(os.path.realpath(root))
    above = [real, *real.parents]
    blobs = [one.parent / "blobs" for one in above if one.name == "snapshots"]
    return [real, *(Path(os.path.realpath(one)) for one in blobs if one.is_dir() and not one.is_symlink())]

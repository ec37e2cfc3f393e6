"""The folder of a report: what is written there, and what an earlier report left.

`report-files.txt` lists the files that reports wrote. A name enters it before its file is written, so that a report that was killed halfway
has all of its files in it; a report that comes to its end removes those that are not its own. Whatever else lies in the folder is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iit_bench.storage.atomic import Content, unwritable, write_atomic
from iit_bench.storage.folder_locks import LOCK, holding
from iit_bench.storage.litter import remove_litter_in

LIST = "report-files.txt"
_HEAD = "# Files that `iit-bench report` wrote here; the next report into this folder removes those that it does not write.\n"
_LIST_OF_SAMPLES = "samples/files.txt"  # of earlier versions, names below samples/
# What a list may name, whoever wrote it: files of a report (reports/links.py).
_OURS = re.compile(
    r"(index|benchmark|series)\.html|(models|pairs|samples|gallery|figures)/[A-Za-z0-9_][A-Za-z0-9._-]*|"
    r"samples/(data|images|pages)/[A-Za-z0-9_][A-Za-z0-9._-]*"
)
_FOLDERS = ("models", "pairs", "gallery", "figures", "samples", "samples/data", "samples/images", "samples/pages")


@contextmanager
def writing(path: Path) -> Iterator[ReportFolder]:
    """The folder of a report, which no other process writes meanwhile. What killed reports left unfinished is removed.

    Raises:
        UserError: another process writes it.
    """
    with holding(path):
        for name in _FOLDERS:
            remove_litter_in(path / name)
        yield ReportFolder(path)


class ReportFolder:
    """Takes the files of one report.

    Args:
        path: of the folder; made with the first file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()  # of this report's files
        self._listed = set(_listed(path))

    def write(self, name: str, data: Content) -> Path:
        """Write a file whole or not at all, and return its path.

        Raises:
            UserError: no space, or no permission.
        """
        self.keep(name)
        write_atomic(self.path / name, data)
        return self.path / name

    def put(self, name: str, data: bytes) -> None:
        """Write one of many files that are of use only with another one, which is written later.

        Raises:
            UserError: no space, or no permission.
        """
        self.keep(name)
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise unwritable(path, error) from error

    def keep(self, name: str) -> None:
        """A file is of this report: it is written next, or an earlier report has left it."""
        if not _OURS.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a report's file")
        self.names.add(name)
        if name in self._listed:
            return
        self._listed.add(name)
        path = self.path / LIST
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{'' if file.tell() else _HEAD}{name}\n")
        except OSError as error:
            raise unwritable(path, error) from error

    def tidy(self) -> None:
        """Remove the files of earlier reports that are not of this one; call it when all is written.

        Raises:
            UserError: no permission.
        """
        for name in sorted(self._listed - self.names):
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(self.path / name, error) from error
        (self.path / _LIST_OF_SAMPLES).unlink(missing_ok=True)
        for folder in reversed(_FOLDERS):
            here = self.path / folder
            if here.is_dir() and not any(here.iterdir()):
                here.rmdir()
        write_atomic(self.path / LIST, _HEAD + "".join(f"{name}\n" for name in sorted(self.names)))


def foreign_files(path: Path) -> int:
    """Files among a report's pages that no report has listed; other folders are not looked at."""
    listed = {LIST, LOCK, *_listed(path)}
    places = [("", path), *((f"{folder}/", path / folder) for folder in _FOLDERS)]
    return sum(
        f"{place}{file.name}" not in listed for place, folder in places if folder.is_dir() for file in folder.iterdir() if file.is_file()
    )


def _listed(path: Path) -> list[str]:
    """The files that earlier reports wrote; names that no report gives its files are ignored."""
    found = []
    for name, below in ((LIST, ""), (_LIST_OF_SAMPLES, "samples/")):
        file = path / name
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        found += [below + line for line in lines if _OURS.fullmatch(below + line)]
    return found

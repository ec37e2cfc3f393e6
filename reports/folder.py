"""The folder of a report: what is written there, and what an earlier report left.

`report-files.txt` lists the files that reports wrote. A name enters it before its file is written, so that a report that was killed halfway
has all of its files in it; a report that comes to its end removes those that are not its own. Whatever else lies in the folder is kept:
where it has the name of a page, the report is refused.
Before its first file a report marks the list as of one under way; the list of a report that came to its end has no mark. It has the sha256
of each file, as `sha256sum -c` reads it, and of its own lines at the end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.progress import notice
from iit_bench.storage.atomic import Content, unwritable, write_atomic
from iit_bench.storage.folder_locks import LOCK, holding
from iit_bench.storage.format import sha256_file
from iit_bench.storage.litter import remove_litter_in
from reports import links

LIST = "report-files.txt"
_HEAD = "# Files that `iit-bench report` wrote here; the next report into this folder removes those that it does not write.\n"
_UNDER_WAY = "# A report is under way, or was stopped; repeat its command to finish it.\n"
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>.+)")  # a line of a whole report's list
_END = "# sha256 of the lines above: "
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
        UserError: another process writes it, or it has an index.html that no report wrote.
    """
    with holding(path):
        for name in _FOLDERS:
            remove_litter_in(path / name)
        folder = ReportFolder(path)
        folder.refuse_to_lose(links.INDEX)  # the last page that is written
        if is_under_way(path):  # and its lock is held here
            notice(f"a report into {str(path)!r} was stopped before its end; this one replaces what it left")
        yield folder


class ReportFolder:
    """Takes the files of one report.

    Args:
        path: of the folder; made with the first file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()  # of this report's files
        self._listed = set(listed_files(path))
        self._earlier = _sums_of_earlier(path)
        self._marked = False

    def write(self, name: str, data: Content) -> Path:
        """Write a file whole or not at all, and return its path.

        Raises:
            UserError: no space, no permission, or a file of the user's has this name.
        """
        self.refuse_to_lose(name)
        self.keep(name)
        write_atomic(self.path / name, data)
        return self.path / name

    def put(self, name: str, data: bytes) -> None:
        """Write one of many files that are of use only with another one, which is written later: as `write`, without waiting for the disk.

        Raises:
            UserError: as `write`.
        """
        self.refuse_to_lose(name)
        self.keep(name)
        write_atomic(self.path / name, data, durable=False)

    def keep_unchanged(self, name: str, data: bytes) -> bool:
        """Take a file of an earlier report, `data`, as one of this one; False if it is not as a finished report wrote it."""
        if self._earlier.get(name) != hashlib.sha256(data).hexdigest():
            return False
        self.keep(name)
        return True

    def refuse_to_lose(self, name: str) -> None:
        """Leave a file as it is that no report wrote.

        Raises:
            UserError: there is one of this name.
        """
        if name not in self._listed and (self.path / name).exists():
            raise UserError(f"{str(self.path / name)!r} was written by no report, and would be lost; move it, or choose another --out")

    def keep(self, name: str) -> None:
        """A file is of this report: it is written next, or an earlier report has left it."""
        if not _OURS.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a report's file")
        self.names.add(name)
        if not self._marked:
            self._mark()
        if name in self._listed:
            return
        self._listed.add(name)
        path = self.path / LIST
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        except OSError as error:
            raise unwritable(path, error) from error

    def _mark(self) -> None:
        """Mark the list as of a report under way, behind what it has: which may end in the midst of a line, where a disk was full."""
        text = _text_of_list(self.path) or _HEAD
        if not text.endswith("\n"):
            text += "\n"
        if _UNDER_WAY not in text:
            text += _UNDER_WAY
        write_atomic(self.path / LIST, text)
        self._marked = True

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
        lines = _HEAD + "".join(f"{sha256_file(self.path / name)}  {name}\n" for name in sorted(self.names))
        write_atomic(self.path / LIST, f"{lines}{_END}{hashlib.sha256(lines.encode()).hexdigest()}\n")


def foreign_files(path: Path) -> int:
    """Files among a report's pages that no report has listed; other folders are not looked at."""
    listed = {LIST, LOCK, *listed_files(path)}
    places = [("", path), *((f"{folder}/", path / folder) for folder in _FOLDERS)]
    return sum(
        f"{place}{file.name}" not in listed for place, folder in places if folder.is_dir() for file in folder.iterdir() if file.is_file()
    )


def listed_files(path: Path) -> list[str]:
    """The files that earlier reports wrote; names that no report gives its files are ignored."""
    found = []
    for name, below in ((LIST, ""), (_LIST_OF_SAMPLES, "samples/")):
        file = path / name
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        names = (whole["name"] if (whole := _SUM.fullmatch(line)) else line for line in lines)
        found += [below + one for one in names if _OURS.fullmatch(below + one)]
    return found


def is_under_way(path: Path) -> bool:
    """Whether a report into the folder has begun and has not come to its end: it is under way, or was stopped.

    A first report of an earlier version, whose list has no mark, is not known as one.
    """
    try:
        text = _text_of_list(path)
    except OSError:  # whoever reads the list reports it
        return False
    return _UNDER_WAY in text or bool(text.partition(_END)[2].partition("\n")[2])


def _sums_of_earlier(path: Path) -> dict[str, str]:
    """Name → sha256 of the files of the last report that came to its end, whatever was begun since; {} where that is not known."""
    lines, _, end = _text_of_list(path).rpartition(_END)
    if end.partition("\n")[0] != hashlib.sha256(lines.encode()).hexdigest():
        return {}
    return {whole["name"]: whole["sha256"] for line in lines.splitlines() if (whole := _SUM.fullmatch(line))}


def _text_of_list(path: Path) -> str:
    """What the list of a folder has; "" if there is none."""
    file = path / LIST
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def sums(path: Path) -> dict[str, str] | None:
    """Name → sha256 of the files of a whole report; None where the list has no sums: of earlier versions, or of a report that was killed.

    Raises:
        ValueError: the list was changed after it was written.
        OSError: it cannot be read.
    """
    text = (path / LIST).read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise ValueError("it is empty: a report was stopped at its first file, or it was emptied; write the report again")
    lines, _, end = text.rpartition(_END)
    found = [whole for line in text.splitlines() if (whole := _SUM.fullmatch(line))]
    if not lines and not found:
        return None
    end, _, added = end.partition("\n")
    if added:
        raise ValueError("a report into the folder was stopped before its end; write it again")
    if end != hashlib.sha256(lines.encode()).hexdigest() or any(not _OURS.fullmatch(whole["name"]) for whole in found):
        raise ValueError("it was changed after it was written")
    return {whole["name"]: whole["sha256"] for whole in found}

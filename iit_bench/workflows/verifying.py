"""`iit-bench verify`: whether folders are whole: nothing missing, nothing changed since it was written.

Files are read in pieces, and only hashed or parsed; torch is loaded only for the checkpoint of a training under way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from iit_bench.data import fetched
from iit_bench.engine import shares
from iit_bench.engine.bulk import BATCHES
from iit_bench.errors import UserError, described
from iit_bench.lab import cells
from iit_bench.models.openai import ledger
from iit_bench.numerals import counted
from iit_bench.storage import benchmark, runs
from iit_bench.storage.folder_locks import LOCK
from iit_bench.storage.format import EXPORT_FORMAT, has_seal, read_header, sha256_file
from iit_bench.storage.inside import OutsideError, file_inside
from iit_bench.storage.tables import check_pages
from iit_bench.types import Prediction, SeenPrompt, TaskItem
from iit_bench.workflows.verifying_logs import check_kept, check_log
from reports import folder as report_folder
from reports.links import INDEX

Kind = Literal["benchmark", "run", "export", "data root", "training", "cells", "report"]
What = Literal["missing", "changed", "damaged", "added"]
DEPTH = 4  # of folders below one that is named: the stages of an experiment are at 3
_RUN_FILES = ("run.json", "results.json", "predictions.parquet", "items.parquet", "responses.jsonl")
_LOG_BEGINS = b'{"step": '  # the first line of a training's log
_MERGE_BEGINS = b"kind: merge\n"  # the recipe of a merge, as `train` writes it
_BESIDE = {"README.md", "croissant.json", "LICENSES.md"}  # of a benchmark and an export; people edit the first


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file."""

    file: str  # path in the folder
    what: What  # added: a file that would be read with the others, and that nothing lists
    detail: str  # a sentence, or its part


@dataclass(kw_only=True)
class Verified:
    """A folder that was looked at."""

    folder: Path
    kind: Kind
    sealed: bool = True  # False: of a version whose JSON files have no checksums
    finished: bool = True  # False: an evaluation or a training under way, or one that was stopped
    checked: int = 0  # files that a checksum covers, or that have their own
    faults: list[Fault] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)  # files, and folders of other tools, that nothing covers
    has_base: bool = True  # False: what a run forgot was not measured again, as its base run is not there, or was written since
    notes: list[str] = field(default_factory=list)  # sentences: why it is not finished, and how to finish it

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and nothing was changed."""
        return not self.faults

    def line(self) -> str:
        """The folder in one line, without its faults."""
        states = {"unsealed": self.sealed, "not finished": self.finished, "base unavailable": self.has_base}
        marks = [mark for mark, fine in states.items() if not fine]
        verdict = "whole" if self.whole else counted(len(self.faults), "fault")
        notes = "".join(f", {mark}" for mark in marks)
        return f"{self.folder}: {self.kind}, {verdict}{notes} ({counted(self.checked, 'file')} checked)"


def verify(folders: Sequence[Path]) -> list[Verified]:
    """Check benchmarks, runs, exports, data roots, trainings, experiments and reports, and all of these in the folders below.

    Args:
        folders: such folders, or folders that hold some, e.g. that of a demo.

    Returns:
        One record per folder that iit-bench wrote; `whole` is False where something is missing or was changed.

    Raises:
        UserError: a folder is not there, or nothing in it is iit-bench's.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{str(folder)!r} is not a folder; name a benchmark, run, export, data root, training, experiment or report")
        places = list(_places(folder, DEPTH))
        if not places:
            raise UserError(f"{str(folder)!r} holds nothing that iit-bench wrote (looked {DEPTH} folders deep); name another folder")
        found += [_checked(place, kind) for place, kind in places]
    return found


def as_text(found: Sequence[Verified]) -> str:
    """A line per folder and per fault, and the counts."""
    rows = []
    for one in found:
        rows += [one.line(), *(f"  {note}" for note in one.notes)]
        rows += [f"  {fault.file}: {fault.what}: {fault.detail}" for fault in one.faults]
    off = sum(not one.whole for one in found)
    return "\n".join([*rows, f"{counted(len(found), 'folder')}, {off} of them not whole"])


def as_dicts(found: Sequence[Verified]) -> list[dict[str, Any]]:
    """The records as JSON values."""
    return [{**dataclasses.asdict(one), "folder": str(one.folder), "whole": one.whole} for one in found]


# ---------------------------------------------------------------- which folder is what


def _places(folder: Path, depth: int) -> Iterator[tuple[Path, Kind]]:
    kind = _kind(folder)
    if kind is not None:
        yield folder, kind
    below = folder / "arms" if kind == "run" else folder
    if depth and kind in (None, "run", "training") and below.is_dir():
        for inner in sorted(path for path in below.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _places(inner, depth - 1)


def _kind(folder: Path) -> Kind | None:
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if names & set(_RUN_FILES):
        return "run"
    if fetched.MANIFEST in names:
        return "data root"
    if report_folder.LIST in names:
        return "report"
    if "training.json" in names or _is_begun_training(folder, names):
        return "training"
    if (folder / "questions").is_dir() and (folder / "dialogues").is_dir():
        return "benchmark"
    if "manifest.json" in names:
        return "export"
    return "cells" if any(_is_cell(folder / name) for name in sorted(names) if name.endswith(".json")) else None


def _is_begun_training(folder: Path, names: Container[str]) -> bool:
    """Whether files are those of a training before its end: a lock or checkpoint beside its log, or a log that is empty or begins as ours.

    A merge has no log: there it is its recipe beside the lock, or, where the disk was full, beside the first file of a model.
    """
    if "log.jsonl" not in names:
        begun = "recipe.yaml" in names and "config.json" in names and (folder / "recipe.yaml").read_bytes().startswith(_MERGE_BEGINS)
        return begun or (LOCK in names and "recipe.yaml" in names)
    if LOCK in names or (folder / "checkpoint").is_dir():
        return True
    with (folder / "log.jsonl").open("rb") as file:
        return file.read(len(_LOG_BEGINS)) in (b"", _LOG_BEGINS)


def _is_cell(path: Path) -> bool:
    with path.open("rb") as file:
        return cells.FORMAT.encode() in file.read(200)


def _checked(folder: Path, kind: Kind) -> Verified:
    look = _Look(Verified(folder=folder, kind=kind))
    _CHECKS[kind](look)
    if kind != "data root":  # which has what a Hub repository has, of which fetched.json lists what was fetched
        look.rest()
    return look.found


class _Look:
    """Looks at the files of one folder, and records what it finds."""

    def __init__(self, found: Verified) -> None:
        self.found, self.folder = found, found.folder
        self._known: set[str] = set()

    def fault(self, name: str, what: What, detail: str) -> None:
        self.found.faults.append(Fault(name, what, detail))

    def unfinished(self, why: str) -> None:
        self.found.finished = False
        self.found.notes.append(why)

    def sha256(self, name: str, expected: Any) -> None:
        """A file has to be there and to have this hash; None: nobody knows its hash."""
        path = self._file(name)
        if path is None:
            return
        if expected is None:
            self.found.unchecked.append(name)
            return
        self.found.checked += 1
        if sha256_file(path) != expected:
            self.fault(name, "changed", "its sha256 is not the one on record")

    def read(self, name: str, how: Callable[[], Any]) -> Any:
        """What a reader finds in a file that has to be there; None where it refuses it."""
        if self._file(name) is None:
            return None
        self.found.checked += 1
        try:
            return how()
        except (UserError, OSError, ValueError) as error:
            self.fault(name, "damaged", described(error))
            return None

    def rest(self) -> None:
        """Record the files that nothing covers, and other tools' folders."""
        for path in sorted(self.folder.iterdir()):
            if path.name not in self._known and not path.name.startswith(".") and not (path.is_dir() and self._holds(path.name)):
                self.found.unchecked.append(path.name + "/" * path.is_dir())

    def _holds(self, name: str) -> bool:
        return any(known.startswith(f"{name}/") for known in self._known) or any(True for _ in _places(self.folder / name, DEPTH))

    def _file(self, name: str) -> Path | None:
        self._known.add(name)
        try:
            path = file_inside(self.folder, name)
        except OutsideError as error:
            self.fault(name, "damaged", f"it is listed, and {error}")
            return None
        if path is None:
            self.fault(name, "missing", "it is listed, or belongs to such a folder")
        return path


# ---------------------------------------------------------------- one function per kind


def _benchmark(look: _Look) -> None:
    manifest = look.read("manifest.json", lambda: benchmark.load_manifest(look.folder))
    if manifest is None:
        return
    look.found.sealed = has_seal(manifest["format"], manifest["version"])
    look.found.unchecked += [name for name in sorted(_BESIDE) if (look.folder / name).is_file()]
    for name, sha256 in manifest["files"].items():
        look.sha256(name, sha256)
    for table in ("questions", "dialogues"):
        for path in sorted((look.folder / table).glob("*.parquet")):
            if f"{table}/{path.name}" not in manifest["files"]:
                look.fault(f"{table}/{path.name}", "added", "the manifest does not list it, and `datasets` reads it with the others")


def _export(look: _Look) -> None:
    fix = "export again"
    manifest = look.read("manifest.json", lambda: read_header(look.folder, "manifest.json", EXPORT_FORMAT, "an export", fix))
    if manifest is None:
        return
    look.found.sealed = has_seal(EXPORT_FORMAT, manifest["version"])
    files = manifest.get("files", {})
    for name, sha256 in files.items() if isinstance(files, dict) else ((name, None) for name in files):  # version 1 has names only
        look.sha256(name, sha256)


def _run(look: _Look) -> None:
    folder = look.folder
    run = look.read("run.json", lambda: runs.load_run_header(folder))
    own = "iit" if run is None else run.get("suite", "iit")
    kind = runs.kind_of(own)
    has_results = _has_results(look, run)
    if has_results:
        stored = look.read("results.json", lambda: read_header(folder, "results.json", kind.format, "a run folder", "repeat its command"))
        if stored is not None:
            look.found.sealed = has_seal(kind.format, stored["version"])
            look.sha256(kind.table, stored.get(kind.digest, ""))
        look.read(runs.ERRORS, lambda: runs.load_errors(folder))
    elif (folder / kind.table).is_file():  # the results were to be written next
        record = Prediction if own == "iit" else TaskItem
        look.read(kind.table, lambda: check_pages(record, folder / kind.table))
    for name, record_type in ((runs.PROMPTS, SeenPrompt), ("attention.parquet", None)):
        if (folder / name).is_file():
            look.read(name, lambda record_type=record_type, name=name: _table(record_type, folder / name))  # type: ignore[misc]
    if run is not None and has_results:
        look.found.sealed &= "files" in run and not run.get("unchecked_answers")
        named = {fault.file for fault in look.found.faults}
        for name, sha256 in (run.get("files") or {}).items():
            if name not in named:
                look.sha256(name, sha256)
        if not look.found.faults:
            look.read("results.json", lambda: _figures(look))
            look.found.checked -= 1
    _logs(look, (run or {}).get("logged") if has_results and look.found.finished else None)


def _has_results(look: _Look, run: Mapping[str, Any] | None) -> bool:
    """Whether a run has results, or has to have some; notes whether it is not finished: its run.json is written last, with its end."""
    ended, there = bool(run and "results.json" in (run.get("files") or {})), (look.folder / "results.json").is_file()
    if run is None:
        look.found.finished = there
    elif not ended and not (there and "files" not in run):  # which runs of earlier versions do not have
        why = "its run.json does not record its end" if there else "it has no results.json"
        stopped = "an evaluation is under way, was stopped, or could not write its last file"
        look.unfinished(f"{why}: {stopped}; to finish it, repeat its command: {run.get('command', '')}")
    return ended or there


def _figures(look: _Look) -> None:
    """Fields and types of a run's results, and its figures against its tables."""
    from evaluators.runs.reading import is_iit, load_run
    from evaluators.runs.recompute import forgetting_again

    run = load_run(look.folder, every=True)
    if is_iit(run) and run.results.forgetting is not None:
        look.found.has_base = forgetting_again(run) is not None


def _table(record: type | None, path: Path) -> None:
    if record is not None:
        return check_pages(record, path)
    from evaluators.attention.table import load_observed

    load_observed(path)
    return None


def _logs(look: _Look, logged: Mapping[str, Any] | None) -> None:
    """The response logs of a run: checksums of lines, that no request has two answers, and that a finished run's are all there."""
    answers: dict[bytes, bytes] = {}
    paths = [look.folder / "responses.jsonl", *shares.rank_logs(look.folder)]
    for path in paths:
        if path.is_file() or (look.found.finished and path.name == "responses.jsonl"):
            bare = look.read(path.name, lambda path=path: check_log(path, answers, paths, look.found.finished))  # type: ignore[misc]
            look.found.sealed &= not bare
    if logged and "responses.jsonl" not in {fault.file for fault in look.found.faults}:
        look.read("responses.jsonl", lambda: check_kept(answers, logged))
        look.found.checked -= 1
    if (look.folder / BATCHES).is_file():
        look.read(BATCHES, lambda: ledger.check(look.folder / BATCHES))


def _data_root(look: _Look) -> None:
    sets = look.read(fetched.MANIFEST, lambda: fetched.load_sets(look.folder))
    for one in (sets or {}).values():
        for name, file in one.files.items():
            look.sha256(name, file.sha256)


def _training(look: _Look) -> None:
    from iit_bench.training.train import CARD, read_card

    if not (look.folder / CARD).is_file():
        look.unfinished(f"it has no {CARD}: a training is under way, or was stopped; to finish it, repeat its command")
        from iit_bench.training import checkpoint

        for name in (checkpoint.FOLDER, "checkpoint.old"):
            if (look.folder / name).is_dir():
                look.read(f"{name}/state.json", lambda: checkpoint.find(look.folder))
        return
    card = look.read(CARD, lambda: read_card(look.folder))
    if card is None:
        return
    look.found.sealed = "format" in card
    files: Mapping[str, str] = card.get("files", {"model.safetensors": card.get("weights_sha256")})
    for name, sha256 in files.items():
        look.sha256(name, sha256)


def _cells(look: _Look) -> None:
    for path in sorted(look.folder.glob("*.json")):
        result = look.read(path.name, lambda path=path: cells.read_cell(path))  # type: ignore[misc]
        if result is not None:
            look.found.sealed &= cells.has_seal(path)
            if result.state == "done":
                look.sha256(f"{result.cell.name}.parquet", result.items_sha256)
    stems = {path.stem for path in look.folder.glob("*.json")}
    for path in sorted(look.folder.glob("*.parquet")):
        if path.stem not in stems:
            look.fault(f"{path.stem}.json", "missing", f"its table {path.name} is there; a process may be about to write it")


def _report(look: _Look) -> None:
    if report_folder.is_under_way(look.folder):
        look.unfinished("a report is under way, or was stopped; to finish it, repeat its command")
    found = look.read(report_folder.LIST, lambda: report_folder.sums(look.folder))
    if look.found.faults:
        return
    # Without sums it is of an earlier version, or unfinished: a name is listed before its file is written, and index.html is the last.
    names = found or dict.fromkeys((INDEX, *report_folder.listed_files(look.folder)))
    for name, sha256 in names.items():
        look.sha256(name, sha256)
    if found is None and look.found.faults and look.found.finished:
        look.unfinished(f"it has no {look.found.faults[0].file}: a report is under way, or was stopped; to finish it, repeat its command")
    look.found.sealed = found is not None or not look.found.finished


_CHECKS: dict[Kind, Callable[[_Look], None]] = {
    "benchmark": _benchmark,
    "run": _run,
    "export": _export,
    "data root": _data_root,
    "training": _training,
    "cells": _cells,
    "report": _report,
}
assert set(_CHECKS) == set(get_args(Kind))

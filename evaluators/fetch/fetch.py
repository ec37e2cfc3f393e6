"""`iit-bench fetch`: the data of presets, tasks and tables into a data root, once, each file checked and written down in its fetched.json.

A repository on the Hub is fetched at the commit that its branch points to when it is fetched first; that commit stands in fetched.json, and
whatever is fetched into this data root later is of the same commit, until `--update` or another fetched.json says otherwise.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from evaluators.fetch.download import PAUSES, Checksum, RemoteFile, download, partial_of, size_of
from evaluators.fetch.hub import CONVERTED, MAIN, endpoint, list_files, merged
from evaluators.fetch.needs import Needs, Table, needs_of
from iit_bench.data.fetched import FetchedFile, FetchedSet, Sets, load_sets, read_sets, save_sets
from iit_bench.errors import UserError
from iit_bench.progress import download_bar
from iit_bench.storage.format import sha256_file
from iit_bench.tools.vlmevalkit import licence_of_table

ASK_ABOVE = 10**9  # bytes; more is fetched only after a yes
LOCK = ".fetch.lock"


@dataclass(frozen=True)
class FetchOptions:
    """`iit-bench fetch`, one field an option."""

    names: tuple[str, ...]
    data_root: Path
    update: bool = False  # take the newest revisions of the Hub's data sets instead of those fetched before
    like: Path | None = None  # another data root's fetched.json: its revisions, and no file that differs from its files
    include_path: Path | None = None  # a user's own tasks in lm-eval's format
    pauses: tuple[float, ...] = PAUSES  # seconds before a broken download is tried again


@dataclass
class Planned:
    """A data set, or a table, with its files."""

    name: str
    made: FetchedSet  # as it will be written down, `files` with what is there already
    missing: list[RemoteFile] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # files that were fetched, changed afterwards and are fetched again

    @property
    def to_fetch(self) -> int | None:
        """Bytes; None where a server does not say."""
        sizes = [file.size for file in self.missing]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass
class Plan:
    """What a fetch will do."""

    data_root: Path
    sets: list[Planned]
    nothing: dict[str, str]  # task -> why nothing is fetched for it

    @property
    def to_fetch(self) -> int:
        """Bytes that are known to be fetched."""
        return sum(file.size or 0 for one in self.sets for file in one.missing)

    @property
    def all_sizes_known(self) -> bool:
        return all(one.to_fetch is not None for one in self.sets)

    @property
    def missing(self) -> int:
        """Files that are fetched."""
        return sum(len(one.missing) for one in self.sets)


def fetch(options: FetchOptions, agreed: Callable[[Plan], bool], progress: bool = True) -> Plan:
    """Plan, ask `agreed` with the plan, and fetch.

    Args:
        agreed: shows the plan, and says whether to go on. It is called before anything is fetched.

    Raises:
        UserError: unknown names, a folder that cannot be written or is in use, a small disk, no consent, files with other hashes.
        MachineError: no connection, a full disk. What arrived is kept; the same call goes on.
    """
    needs = needs_of(options.names, options.include_path)
    with _alone(options.data_root):
        plan = make_plan(options, needs)
        if not agreed(plan):
            raise UserError("nothing was fetched; repeat the command with --yes to agree")
        _check_space(plan)
        with download_bar("fetching", plan.to_fetch, progress and plan.missing > 0) as advance:
            for one in plan.sets:
                _fetch_set(plan.data_root, one, partial(_fetch_file, options=options, advance=advance))
    return plan


@contextmanager
def _alone(data_root: Path) -> Iterator[None]:
    """The data root, made if need be, for this process alone: two would write into the same unfinished files."""
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        probe = data_root / f".{os.getpid()}.probe"
        probe.write_bytes(b"iit-bench")
        probe.unlink()
        lock = FileLock(data_root / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another `iit-bench fetch` is at work in {str(data_root)!r}; wait for it to end") from error
    except OSError as error:
        raise UserError(f"cannot write into --data-root {str(data_root)!r} ({error.strerror or error}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _check_space(plan: Plan) -> None:
    here = sum(
        place.stat().st_size
        for one in plan.sets
        for file in one.missing
        if (place := partial_of(file, plan.data_root / file.path)).exists()
    )
    free = shutil.disk_usage(plan.data_root).free
    if plan.missing and plan.to_fetch - here > free:
        needed, there = in_words(plan.to_fetch - here), in_words(free)
        raise UserError(f"{needed} are to be fetched, and the disk of {str(plan.data_root)!r} has {there} free; free some, or take another")


# ---------------------------------------------------------------- planning


def make_plan(options: FetchOptions, needs: Needs) -> Plan:
    """What is there, what is missing, and where it comes from.

    Raises:
        UserError: as `fetch`.
        MachineError: a server cannot be asked.
    """
    there = load_sets(options.data_root)
    like = read_sets(options.like) if options.like else {}
    for name in (*needs.hub, *(table.name for table in needs.tables)):
        if options.like and name not in like:
            raise UserError(f"{str(options.like)!r} says nothing of the data set {name!r}; leave out --like, or the tasks that need it")
    sets = [_plan_hub(options, dataset, needs, there.get(dataset), like) for dataset in needs.hub]
    sets += [_plan_table(options, table, there.get(table.name), like) for table in needs.tables]
    return Plan(options.data_root, sets, dict(needs.nothing))


def _plan_hub(options: FetchOptions, dataset: str, needs: Needs, before: FetchedSet | None, like: Sets) -> Planned:
    wanted = merged(needs.hub[dataset])
    pinned = needs.revisions.get(dataset)
    if before and pinned and pinned not in (before.ref, before.revision) and not options.update:
        there = f"{str(options.data_root)!r} has {before.ref or before.revision!r}"
        raise UserError(f"a task asks for revision {pinned!r} of {dataset!r}, and {there}; add --update, or take another --data-root")
    kept = like[dataset].revision if like else before.revision if before and not options.update else None
    if before and kept == before.revision and _covers(before, wanted):
        old = _still_there(options.data_root, before)
        if len(old) == len(before.files):  # nothing to ask the Hub for
            return Planned(dataset, before)
    if before:  # what earlier calls fetched stays whole, also where the revision changes
        earlier = [(config or None, tuple(splits)) for config, splits in before.splits.items()]
        wanted = merged([*wanted.items(), *earlier])
    revisions = [kept] if kept else [needs.revisions[dataset]] if dataset in needs.revisions else [MAIN, CONVERTED]
    listing = list_files(dataset, wanted, revisions)
    ref = before.ref if before and kept == before.revision else like[dataset].ref if like else listing.ref
    licence = listing.licence or (before.licence if before else "unknown")
    made = FetchedSet(f"{endpoint()}/datasets/{dataset}", listing.commit, ref, licence, listing.splits)
    planned = Planned(dataset, made)
    for file in listing.files:
        _place(options.data_root, planned, _expected(file, like.get(dataset), options.like), before)
    return planned


def _plan_table(options: FetchOptions, table: Table, before: FetchedSet | None, like: Sets) -> Planned:
    planned = Planned(table.name, FetchedSet(table.url, table.md5, "", licence_of_table(table.name)))
    path = f"LMUData/{table.name}.tsv"
    checksum = Checksum("md5", table.md5) if table.md5 else Checksum("")
    unsized = RemoteFile(path, table.url, None, checksum)
    _place(options.data_root, planned, _expected(unsized, like.get(table.name), options.like), before)
    planned.missing = [RemoteFile(path, table.url, size_of(table.url), file.checksum) for file in planned.missing]
    return planned


def _covers(before: FetchedSet, wanted: dict[str | None, tuple[str, ...]]) -> bool:
    return all(split in before.splits.get(config or "", {}) for config, splits in wanted.items() for split in splits)


def _still_there(data_root: Path, before: FetchedSet) -> dict[str, FetchedFile]:
    """The files that are what was fetched."""
    return {name: file for name, file in before.files.items() if _is(data_root / name, file)}


def _is(path: Path, file: FetchedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_file(path) == file.sha256


def _expected(file: RemoteFile, like: FetchedSet | None, where: Path | None) -> RemoteFile:
    """The file with the sha256 that another fetched.json has for it, if it says which."""
    if like is None:
        return file
    if file.path not in like.files:
        raise UserError(f"{str(where)!r} has no file {file.path!r}; leave out --like, or the tasks that need it")
    return RemoteFile(file.path, file.url, file.size, Checksum("sha256", like.files[file.path].sha256), file.headers)


def _place(data_root: Path, planned: Planned, file: RemoteFile, before: FetchedSet | None) -> None:
    """Sort a file into what is there and what is missing.

    Raises:
        UserError: the user has another file in its place.
    """
    path = data_root / file.path
    fetched = before.files.get(file.path) if before else None
    if path.is_file():
        untouched = fetched is not None and _is(path, fetched)
        if file.checksum.matches(path) and (untouched or fetched is None or file.checksum.kind):
            planned.made.files[file.path] = fetched if fetched and untouched else _adopted(path, file)
            return
        if fetched and not untouched:
            planned.changed.append(file.path)
    if path.exists() and fetched is None:
        raise UserError(f"{str(path)!r} is there already and is not the published file; move it away, or choose another --data-root")
    planned.missing.append(file)


def _adopted(path: Path, file: RemoteFile) -> FetchedFile:
    return FetchedFile(path.stat().st_size, sha256_file(path), file.checksum.kind)


# ---------------------------------------------------------------- fetching


def _fetch_set(data_root: Path, planned: Planned, fetch_file: Callable[[Path, RemoteFile], FetchedFile]) -> None:
    """Fetch what is missing of a data set and write it down when it is whole; files of a revision before are then removed."""
    for file in planned.missing:
        planned.made.files[file.path] = fetch_file(data_root / file.path, file)
    sets = load_sets(data_root)
    before = sets.get(planned.name)
    if before == planned.made:
        return
    for name in set(before.files if before else ()) - set(planned.made.files):
        (data_root / name).unlink(missing_ok=True)
    planned.made.files = dict(sorted(planned.made.files.items()))
    save_sets(data_root, sets | {planned.name: planned.made})


def _fetch_file(target: Path, file: RemoteFile, options: FetchOptions, advance: Callable[[int], None]) -> FetchedFile:
    return download(file, target, advance, options.pauses)


# ---------------------------------------------------------------- in words


def describe(plan: Plan) -> str:
    """The plan as a table: what, of which revision, under which licence, how much."""
    rows = [("data set", "revision", "licence", "files", "to fetch")]
    for one in plan.sets:
        size = "nothing" if not one.missing else "size unknown" if one.to_fetch is None else in_words(one.to_fetch)
        count = str(len(one.made.files) + len(one.missing))
        rows.append((one.name, one.made.revision[:12] or "not named", one.made.licence, count, size))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = lines if plan.sets else []
    lines += [f"{name}: {why}" for name, why in plan.nothing.items()]
    lines += [f"{name} was changed after it was fetched and is fetched again" for one in plan.sets for name in one.changed]
    what = f"{in_words(plan.to_fetch)} in {plan.missing} files" if plan.missing else "nothing"
    return "\n".join([*lines, f"to fetch into {str(plan.data_root)!r}: {what}"])


def in_words(size: int) -> str:
    """Bytes as a short text: 999 B, 1.2 kB, 3.4 MB, 5.6 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"

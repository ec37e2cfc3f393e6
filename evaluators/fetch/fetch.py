"""`iit-bench fetch`: downloads the data of presets, tasks and tables once, into a data root whose fetched.json lists every checked file.

A repository on the Hub is fetched at the commit that its branch points to when it is first fetched. fetched.json records that commit, and
whatever is fetched into the data root later is of the same commit, unless `--update` or `--like` asks for another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from evaluators.fetch.download import PAUSES, Checksum, RemoteFile, download, partial_of, size_of
from evaluators.fetch.hub import CONVERTED, MAIN, endpoint, list_files, merged
from evaluators.fetch.needs import Needs, Table, needs_of
from iit_bench.data.fetched import FetchedFile, FetchedSet, Sets, load_sets, read_sets, save_sets
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.progress import download_bar
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.folder_locks import holding
from iit_bench.storage.format import sha256_file
from iit_bench.storage.inside import OutsideError, inside
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.tools.vlmevalkit import DATA_FOLDER, licence_of_table

ASK_ABOVE = 10**9  # bytes; more is fetched only with consent


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Options of `iit-bench fetch`, one field per option."""

    names: tuple[str, ...]
    data_root: Path
    update: bool = False  # take the newest revisions of the Hub's data sets instead of those fetched before
    like: Path | None = None  # another data root's fetched.json: its revisions, and no file that differs from its files
    include_path: Path | None = None  # a user's own tasks in lm-eval's format
    pauses: tuple[float, ...] = PAUSES  # seconds before a broken download is tried again


@dataclass
class Planned:
    """A data set or table, and which of its files are to be fetched."""

    name: str
    record: FetchedSet  # as fetched.json will list it; `files` begins with those already present
    missing: list[RemoteFile] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # files that were fetched before and changed since: they are fetched again

    @property
    def to_fetch(self) -> int | None:
        """Bytes to fetch; None if a server does not state a size."""
        sizes = [file.size for file in self.missing]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass
class Plan:
    """What a fetch is going to do."""

    data_root: Path
    sets: list[Planned]
    nothing: dict[str, str]  # task → why nothing is fetched for it

    @property
    def to_fetch(self) -> int:
        """Bytes to fetch, as far as servers state them."""
        return sum(file.size or 0 for planned in self.sets for file in planned.missing)

    @property
    def all_sizes_known(self) -> bool:
        """Whether `to_fetch` is the whole of it."""
        return all(planned.to_fetch is not None for planned in self.sets)

    @property
    def missing(self) -> int:
        """Number of files to fetch."""
        return sum(len(planned.missing) for planned in self.sets)


def fetch(options: FetchOptions, agreed: Callable[[Plan], bool], progress: bool = True) -> Plan:
    """Plan, ask `agreed` for consent to the plan, and fetch.

    Args:
        agreed: shows the plan and returns whether to fetch. It is called before anything is fetched.

    Raises:
        UserError: unknown names, a folder that cannot be written or is in use, a disk too small, no consent, files with other checksums.
        MachineError: no connection, a full disk. What arrived is kept; the same call resumes.
    """
    refuse_other_kinds(options.data_root, "no data sets go", but=("data root",), fix="choose another --data-root")
    needs = needs_of(options.names, options.include_path)
    check_writable(options.data_root)
    with holding(options.data_root, fix="choose another --data-root"):  # two would write into the same unfinished files
        plan = make_plan(options, needs)
        if not agreed(plan):
            raise UserError("nothing was fetched; repeat the command with --yes to agree")
        _check_space(plan)
        with download_bar("fetching", plan.to_fetch, progress and plan.missing > 0) as advance:
            for planned in plan.sets:
                _fetch_set(plan.data_root, planned, partial(_fetch_file, options=options, advance=advance))
    return plan


def _check_space(plan: Plan) -> None:
    arrived = sum(
        partial_file.stat().st_size
        for planned in plan.sets
        for file in planned.missing
        if (partial_file := partial_of(file, plan.data_root / file.path)).exists()
    )
    free = shutil.disk_usage(plan.data_root).free
    if plan.missing and plan.to_fetch - arrived > free:
        needed, available = in_words(plan.to_fetch - arrived), in_words(free)
        raise UserError(
            f"{needed} are to be fetched, and the disk of {str(plan.data_root)!r} has {available} free; free some, or choose another"
        )


# ---------------------------------------------------------------- planning


def make_plan(options: FetchOptions, needs: Needs) -> Plan:
    """Which files are present, which are missing, and where those come from.

    Raises:
        UserError: as `fetch`.
        MachineError: a server cannot be reached.
    """
    present = load_sets(options.data_root)
    like = read_sets(options.like) if options.like else {}
    for name in (*needs.hub, *(table.name for table in needs.tables)):
        if options.like and name not in like:
            raise UserError(f"{str(options.like)!r} does not list the data set {name!r}; leave out --like, or the tasks that need it")
    sets = [_plan_hub(options, dataset, needs, present.get(dataset), like) for dataset in needs.hub]
    sets += [_plan_table(options, table, present.get(table.name), like) for table in needs.tables]
    return Plan(options.data_root, sets, dict(needs.nothing))


def _plan_hub(options: FetchOptions, dataset: str, needs: Needs, before: FetchedSet | None, like: Sets) -> Planned:
    wanted = merged(needs.hub[dataset])
    pinned = needs.revisions.get(dataset)
    if before and pinned and pinned not in (before.ref, before.revision) and not options.update:
        other = f"{str(options.data_root)!r} has {before.ref or before.revision!r}"
        raise UserError(f"a task asks for revision {pinned!r} of {dataset!r}, and {other}; add --update, or choose another --data-root")
    kept = like[dataset].revision if like else before.revision if before and not options.update else None
    if before and kept == before.revision and _covers(before, wanted) and _is_whole(options.data_root, before):
        return Planned(dataset, before)  # nothing to ask the Hub for
    if before:  # what earlier calls fetched stays complete, even if the revision changes
        earlier = [(config or None, tuple(splits)) for config, splits in before.splits.items()]
        wanted = merged([*wanted.items(), *earlier])
    revisions = [kept] if kept else [needs.revisions[dataset]] if dataset in needs.revisions else [MAIN, CONVERTED]
    listing = list_files(dataset, wanted, revisions)
    ref = before.ref if before and kept == before.revision else like[dataset].ref if like else listing.ref
    licence = listing.licence or (before.licence if before else "unknown")
    address = f"{endpoint()}/datasets/{dataset}"
    record = FetchedSet(source=address, revision=listing.commit, ref=ref, licence=licence, splits=listing.splits)
    planned = Planned(dataset, record)
    for file in listing.files:
        _sort_in(options.data_root, planned, _expected(file, like.get(dataset), options.like), before)
    return planned


def _plan_table(options: FetchOptions, table: Table, before: FetchedSet | None, like: Sets) -> Planned:
    record = FetchedSet(source=table.url, revision=table.md5, ref="", licence=licence_of_table(table.name))
    planned = Planned(table.name, record)
    checksum = Checksum("md5", table.md5) if table.md5 else Checksum("")
    unsized = RemoteFile(path=f"{DATA_FOLDER}/{table.name}.tsv", url=table.url, size=None, checksum=checksum)
    _sort_in(options.data_root, planned, _expected(unsized, like.get(table.name), options.like), before)
    planned.missing = [replace(file, size=size_of(table.url)) for file in planned.missing]
    return planned


def _covers(before: FetchedSet, wanted: dict[str | None, tuple[str, ...]]) -> bool:
    return all(split in before.splits.get(config or "", {}) for config, splits in wanted.items() for split in splits)


def _is_whole(data_root: Path, before: FetchedSet) -> bool:
    return all(_is(data_root / name, file) for name, file in before.files.items())


def _is(path: Path, file: FetchedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_file(path) == file.sha256


def _expected(file: RemoteFile, like: FetchedSet | None, where: Path | None) -> RemoteFile:
    """The file with the sha256 that the fetched.json of `--like` lists for it; unchanged without one."""
    if like is None:
        return file
    if file.path not in like.files:
        raise UserError(f"{str(where)!r} has no file {file.path!r}; leave out --like, or the tasks that need it")
    return replace(file, checksum=Checksum("sha256", like.files[file.path].sha256))


def _sort_in(data_root: Path, planned: Planned, file: RemoteFile, before: FetchedSet | None) -> None:
    """Add a file to those that are present or to those that are missing.

    Raises:
        UserError: a file of the user's own is in its place.
    """
    path = data_root / file.path
    fetched = before.files.get(file.path) if before else None
    if path.is_file():
        untouched = fetched is not None and _is(path, fetched)
        if file.checksum.matches(path) and (untouched or fetched is None or file.checksum.kind):
            planned.record.files[file.path] = fetched if fetched and untouched else _adopted(path, file)
            return
        if fetched and not untouched:
            planned.changed.append(file.path)
    if path.exists() and fetched is None:
        raise UserError(f"{str(path)!r} exists and is not the published file; move it away, or choose another --data-root")
    planned.missing.append(file)


def _adopted(path: Path, file: RemoteFile) -> FetchedFile:
    return FetchedFile(size=path.stat().st_size, sha256=sha256_file(path), checked=file.checksum.kind)


# ---------------------------------------------------------------- fetching


def _fetch_set(data_root: Path, planned: Planned, fetch_file: Callable[[Path, RemoteFile], FetchedFile]) -> None:
    """Fetch the missing files of a data set and list it in fetched.json once it is complete; then remove files of an earlier revision."""
    for file in planned.missing:
        planned.record.files[file.path] = fetch_file(data_root / file.path, file)
    sets = load_sets(data_root)
    before = sets.get(planned.name)
    if before == planned.record:
        return
    for name in set(before.files if before else ()) - set(planned.record.files):
        _remove(data_root, name)
    planned.record.files = dict(sorted(planned.record.files.items()))
    save_sets(data_root, sets | {planned.name: planned.record})


def _remove(data_root: Path, name: str) -> None:
    """Remove a file of an earlier revision.

    Raises:
        UserError: a link leads to it out of the data root.
    """
    try:
        inside(data_root, str(Path(name).parent / "file"))  # a link in its place goes itself, not what it leads to
    except OutsideError as error:
        raise UserError(f"{str(data_root / name)!r} is of an earlier revision, and lies elsewhere by a link; remove it by hand") from error
    (data_root / name).unlink(missing_ok=True)


def _fetch_file(target: Path, file: RemoteFile, options: FetchOptions, advance: Callable[[int], None]) -> FetchedFile:
    return download(file, target, advance, options.pauses)


# ---------------------------------------------------------------- in words


def describe(plan: Plan) -> str:
    """The plan as a table: data set, revision, licence, number of files, size."""
    rows = [("data set", "revision", "licence", "files", "to fetch")]
    for planned in plan.sets:
        size = "nothing" if not planned.missing else "size unknown" if planned.to_fetch is None else in_words(planned.to_fetch)
        count = str(len(planned.record.files) + len(planned.missing))
        rows.append((planned.name, planned.record.revision[:12] or "not named", planned.record.licence, count, size))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = lines if plan.sets else []
    lines += [f"{name}: {why}" for name, why in plan.nothing.items()]
    lines += [f"{name} was changed after it was fetched and is fetched again" for planned in plan.sets for name in planned.changed]
    what = f"{in_words(plan.to_fetch)} in {counted(plan.missing, 'file')}" if plan.missing else "nothing"
    return "\n".join([*lines, f"to fetch into {str(plan.data_root)!r}: {what}"])


def in_words(size: int) -> str:
    """Bytes as a short text: 999 B, 1.2 kB, 3.4 MB, 5.6 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"

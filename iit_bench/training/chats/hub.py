"""Data sets of the Hub as sources: `hf:OWNER/NAME[/FILE][@REVISION][:SUBSET[:SPLIT]]`, by way of the Hub's cache on this machine."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iit_bench.data import snapshots
from iit_bench.errors import UserError, one_line

HUB = "hf:"
_SPELLED = re.compile(
    r"hf:(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<file>[^@:]+))?(?:@(?P<revision>[\w./-]+))?(?::(?P<subset>[^:]*)(?::(?P<split>[^:]+))?)?"
)
_PART_OF = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\..*)?")  # one file of a split in several
_ALWAYS = ("README.md", ".gitattributes")  # what a listing is known by; the first has the configurations


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """What a recipe names of a data set on the Hub.

    Attributes:
        name: OWNER/NAME.
        file: one file of it; empty: the files of a split.
        revision: branch, tag or commit; empty: main.
        subset: configuration; empty: the default one.
        split: empty: not said here.
    """

    name: str
    file: str = ""
    revision: str = ""
    subset: str = ""
    split: str = ""


def parse(text: str) -> HubPlace:
    """Read `hf:…`.

    Raises:
        ValueError: it is spelled in another way.
    """
    found = _SPELLED.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not spelled hf:OWNER/NAME[/FILE][@REVISION][:SUBSET[:SPLIT]]")
    return HubPlace(**{key: value or "" for key, value in found.groupdict().items()})


def files_of(
    place: HubPlace, split: str, subset: str, suffixes: Sequence[str], revision: str = "", download: bool = True
) -> tuple[list[Path], str]:
    """The files that a place names, in the Hub's cache.

    Args:
        place: of a data set.
        split: read where `place` names no file.
        subset: the split's configuration; empty: the default one.
        suffixes: of files that are read.
        revision: a commit in place of `place.revision`.
        download: whether files that are not in the cache are downloaded.

    Returns:
        The files in order, and the commit that they are of.

    Raises:
        UserError: they are neither in the cache nor available from the Hub, or there is no such file, split or subset.
    """
    card, commit = _snapshot(place, revision or place.revision or "main", _ALWAYS, download)
    names = (_listed(place, commit) if download else None) or _cached(card)
    wanted = (
        [place.file] if place.file else snapshots.find_splits(names, snapshots.card_header(card), subset or None, [split])[1].get(split, [])
    )
    wanted = [name for name in wanted if name in names and Path(name).suffix in suffixes]
    if not wanted:
        what = f"file {place.file!r}" if place.file else f"file of split {split!r}" + (f" of subset {subset!r}" if subset else "")
        raise UserError(
            f"{HUB}{place.name}: has no {', '.join(suffixes)} {what} at revision {commit[:12]}; look at its files on the Hub, and name one "
            f"as {HUB}{place.name}/FILE, or set split and subset"
        )
    folder, _ = _snapshot(place, commit, wanted, download)
    if missing := [name for name in wanted if not (folder / name).is_file()] or _missing_parts(wanted):
        raise UserError(f"{HUB}{place.name}: {missing[0]} is not in the Hub's cache, only other files of it; download the data set again")
    return [folder / name for name in wanted], commit


def is_cached(place: HubPlace, split: str, subset: str, suffixes: Sequence[str]) -> bool:
    """Whether the files that a place names can be read without downloading."""
    try:
        files_of(place, split, subset, suffixes, download=False)
    except UserError:
        return False
    return True


def _snapshot(place: HubPlace, revision: str, names: Sequence[str], download: bool) -> tuple[Path, str]:
    """Folder of the cache that has files of a commit, and the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    from iit_bench import http

    where = f"{HUB}{place.name}"
    try:
        patterns = [glob.escape(name) for name in names]
        found = snapshot_download(
            place.name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            local_files_only=not download,
        )
    except GatedRepoError as error:
        raise UserError(f"{where}: asks for consent; give it on its page of the Hub and log in with `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{where}: has no revision {revision!r}; name one of its branches, tags or commits") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{where}: the Hub has no such data set, or you have no access to it; check its name, or log in") from error
    except (HFValidationError, OSError, *http.ERRORS) as error:
        raise UserError(
            f"{where}: is not in the Hub's cache on this machine, and the Hub cannot be reached ({one_line(error)}); check the network, or "
            f"download it elsewhere (hf download {place.name} --repo-type dataset --local-dir DIR) and set source to DIR"
        ) from error
    return Path(found), Path(found).name


def _listed(place: HubPlace, commit: str) -> list[str] | None:
    """Names of all files of a commit; None where the Hub does not answer."""
    from huggingface_hub import HfApi

    from iit_bench import http

    try:
        return list(HfApi().list_repo_files(place.name, repo_type="dataset", revision=commit))
    except (OSError, *http.ERRORS):
        return None


def _cached(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _missing_parts(names: Sequence[str]) -> list[str]:
    """Of a split in several files, those that their numbers say are missing."""
    parts = [found for name in names if (found := _PART_OF.fullmatch(name))]
    missing = []
    for before, of, after in dict.fromkeys((part[1], part[3], part[4] or "") for part in parts):
        have = {part[2] for part in parts if part[1] == before}
        missing += [f"{before}-{number:05}-of-{of}{after}" for number in range(int(of)) if f"{number:05}" not in have]
    return missing

"""`fetched.json` in a data root: what `iit-bench fetch` downloaded, from which revision, with the sha256 of each file.

Evaluations and builds read it to record which revision they used, and to refuse files that were changed afterwards. A data root without one
(snapshots put there by hand) works as well; its revisions are then unknown.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from iit_bench.errors import UserError, described
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import SNAPSHOTS_FORMAT, opened, sealed_json, sha256_file
from iit_bench.storage.inside import stays_inside
from iit_bench.storage.tables import decode

MANIFEST = "fetched.json"
_FIX = "delete it and fetch again"


@dataclass(frozen=True, kw_only=True)
class FetchedFile:
    """A file that was fetched as a whole."""

    size: int  # bytes
    sha256: str  # of the file as it arrived
    checked: str  # kind of its publisher's checksum: "sha256", "git sha1", "md5", or "" if none is published


@dataclass(kw_only=True)
class FetchedSet:
    """A Hub repository, or a table of VLMEvalKit."""

    source: str  # address of the repository or the table
    revision: str  # commit of the repository; md5 that VLMEvalKit states for the table, or ""
    ref: str  # the branch that pointed to the commit when it was first fetched; "" for tables
    licence: str  # as its card or VLMEvalKit states it; "unknown" if neither does
    splits: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)  # configuration → split → paths, as in `files`
    files: dict[str, FetchedFile] = field(default_factory=dict)  # path in the data root → file


Sets = dict[str, FetchedSet]  # Hub id or name of the table → what was fetched of it


def load_sets(data_root: Path) -> Sets:
    """What was fetched into a data root; {} if nothing was.

    Raises:
        UserError: its fetched.json is damaged or of another version.
    """
    path = data_root / MANIFEST
    if not path.is_file():
        return {}
    return read_sets(path)


def read_sets(path: Path) -> Sets:
    """The content of a fetched.json.

    Raises:
        UserError: it does not exist, is damaged or of another version.
    """
    try:
        header = opened(json.loads(path.read_text(encoding="utf-8")), path, SNAPSHOTS_FORMAT, _FIX, "a data root")
        sets = {name: decode(FetchedSet, fetched) for name, fetched in header["sets"].items()}
        if leading_out := [name for fetched in sets.values() for name in fetched.files if not stays_inside(name)]:
            raise ValueError(f"{leading_out[0]!r} lies outside the data root")
        return sets
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else described(error)
        raise UserError(f"{str(path)!r} is not what `iit-bench fetch` wrote ({reason}); {_FIX}") from error


def save_sets(data_root: Path, sets: Sets) -> None:
    """Write fetched.json.

    Raises:
        UserError: it cannot be written.
    """
    listed = {name: dataclasses.asdict(fetched) for name, fetched in sorted(sets.items())}
    write_atomic(data_root / MANIFEST, sealed_json(SNAPSHOTS_FORMAT, {"sets": listed}))


def check_unchanged(data_root: Path, paths: Iterable[Path]) -> str:
    """Refuse files that changed after they were fetched; files that were not fetched pass.

    Returns:
        Their revision; "" if it is not known.

    Raises:
        UserError: names the file that was changed.
    """
    sets = load_sets(data_root)
    of_file = {name: fetched for fetched in sets.values() for name in fetched.files}
    revisions = set()
    for path in paths:
        name = path.relative_to(data_root).as_posix()
        if (fetched := of_file.get(name)) is None:
            continue
        if sha256_file(path) != fetched.files[name].sha256:
            raise UserError(f"{str(path)!r} was changed after it was fetched (its sha256 differs); delete it and fetch it again")
        revisions.add(fetched.revision)
    return ", ".join(sorted(revisions - {""}))

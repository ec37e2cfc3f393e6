"""The files of a finished run, compared with their hashes in its run.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.format import sha256_file
from iit_bench.storage.inside import inside


def check_file(folder: Path, run: Mapping[str, Any], path: Path) -> None:
    """Compare a file of a run's folder with its hash in run.json.

    Args:
        folder: the run folder.
        run: what its run.json holds; without `files` no hash is compared.
        path: of the file.

    Raises:
        UserError: it is missing, was changed, leads out of the folder, or is not among the files that the run wrote.
    """
    files, again = run.get("files"), f"put back what was there, or repeat its command: {run.get('command', '')}"
    if (folder / "run.json").is_file():  # else another tool's, whose files its reader found itself
        try:
            inside(folder, path.relative_to(folder).as_posix())
        except ValueError as error:
            raise UserError(f"{str(path)!r} leads out of the folder of its run; {again}") from error
    if not files:
        return
    name = path.relative_to(folder).as_posix()
    if name not in files:
        raise UserError(f"{str(path)!r} is not a file that this run wrote (its run.json does not list it); remove it, or {again}")
    if not path.is_file():
        raise UserError(f"{str(path)!r} is missing, which this run wrote; {again}")
    if sha256_file(path) != files[name]:
        raise UserError(f"{str(path)!r} is not the file that this run wrote (its sha256 is not the one in run.json); {again}")

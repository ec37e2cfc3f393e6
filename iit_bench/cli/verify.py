"""`iit-bench verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, app
from iit_bench.terminal import write


@app.command()
def verify(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Benchmarks, runs, exports, data roots, trainings, experiments, reports, or folders of these.", show_default=False
        ),
    ],
    json: AsJson = False,
) -> None:
    """Check that folders are whole: nothing is missing, and nothing was changed since it was written. Nothing is written or repaired.

    JSON files and lines of logs have checksums of their own, other files are listed with theirs. Folders of earlier versions that have
    none are marked as unsealed. The exit code is 1 where something is missing or was changed.

    Example: iit-bench verify demo
    """
    from iit_bench.storage.tables import canonical_json
    from iit_bench.workflows.verifying import as_dicts, as_text
    from iit_bench.workflows.verifying import verify as verify_folders

    found = verify_folders(folders)
    write(canonical_json(as_dicts(found)) if json else as_text(found), json=json)
    if not all(one.whole for one in found):
        raise typer.Exit(1)

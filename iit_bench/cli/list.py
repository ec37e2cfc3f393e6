"""`iit-bench list`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from iit_bench.cli.app import AsJson, app
from iit_bench.terminal import write


@app.command("list")
def list_names(
    what: Annotated[
        Literal["models", "sources", "tasks", "tiers", "presets", "recipes", "arms"],
        typer.Argument(help="What to list.", show_default=False),
    ],
    json: AsJson = False,
) -> None:
    """List the names that other commands accept."""
    from iit_bench.cli.listing import listing

    rows = listing(what)
    if json:
        import json as codec

        write(codec.dumps(dict(rows), indent=2), json=True)
    else:
        width = max((len(name) for name, _ in rows), default=0)
        for name, description in rows:
            write(f"{name:{width}}  {description}".rstrip())

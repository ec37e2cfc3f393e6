"""The command line: each command parses its options, calls one function and prints. A room is imported only when its command runs.

A command has a line in `commands.py` and a file, which is imported when the command is named.
"""

from __future__ import annotations

import sys

from iit_bench.cli.commands import HELP_FLAGS, page, print_page
from iit_bench.version import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: see `docs/how-to/resume-and-repeat.md`."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]  # `list` may be the command's file here
    if words and words[0] in HELP_FLAGS:
        return print_page(page())
    if words == ["--version"]:
        return print_page(f"iit-bench {__version__}")
    from iit_bench.cli.app import run

    return run(words)

"""The command line: each command parses its options, calls one function and prints. A room is imported only when its command runs.

One file per command. Importing a file adds its command, so `iit-bench --help` shows them in the order below.
"""

# isort: off
# ruff: noqa: F401
import iit_bench.cli.demo
import iit_bench.cli.build
import iit_bench.cli.export
import iit_bench.cli.fetch
import iit_bench.cli.eval
import iit_bench.cli.watch
import iit_bench.cli.report
import iit_bench.cli.train
import iit_bench.cli.list
from iit_bench.cli.app import app, main

__all__ = ["app", "main"]

"""Measures how long the command line takes to print its help, against an interpreter that does nothing.

    python benchmarks/startup.py [--repeats 20] [--json]

CPU time of new processes, medians over alternating runs; the ratio is to `python -c pass` in the same environment.
"""

from __future__ import annotations

import argparse
import json
import statistics

from costs import cost_of
from printed import as_table

MAIN = "import sys; from iit_bench.cli import main; sys.exit(main(sys.argv[1:]))"
COMMANDS = {
    "python -c pass": ("pass", ()),
    "iit-bench --help": (MAIN, ("--help",)),
    "iit-bench --version": (MAIN, ("--version",)),
    "iit-bench eval --help": (MAIN, ("eval", "--help")),
    "iit-bench list tiers": (MAIN, ("list", "tiers")),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.repeats):
        for name, (code, words) in COMMANDS.items():
            times[name].append(cost_of(code, words).cpu)
    medians = {name: statistics.median(values) for name, values in times.items()}
    empty = medians["python -c pass"]
    rows = {name: {"CPU, ms": 1000 * median, "ratio": median / empty} for name, median in medians.items()}
    print(json.dumps(rows, indent=2) if arguments.json else as_table(rows))


if __name__ == "__main__":
    main()

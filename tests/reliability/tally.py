"""What the trials count: one row each, printed by `make torture` and kept in docs/reliability.md with the commit it was tried on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import ItemError, MachineError, UserError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
OUTCOMES = ("survived", "detected", "silently accepted", "internal errors")
HEAD = ("trial", "commit", "tried", *OUTCOMES)
NAME = "trial"  # of the property that a test's report carries


class Tally:
    """Counts of one trial.

    Args:
        trial: its name in the table.
        record: pytest's `record_property`, of the test that makes the trial.
    """

    def __init__(self, trial: str, record: Callable[[str, object], None]) -> None:
        self.counts: dict[str, Any] = {NAME: trial, **dict.fromkeys(OUTCOMES, 0)}
        record(NAME, self.counts)

    def add(self, **counts: int) -> None:
        """Count more: `survived=3`, `silently_accepted=1`."""
        for outcome, count in counts.items():
            self.counts[outcome.replace("_", " ")] += count

    def tried(self, read: Callable[[], Any], is_sound: Callable[[Any], bool] = lambda found: True, *refusals: type[Exception]) -> None:
        """Read something: it has to be read, or refused in one sentence.

        Args:
            is_sound: whether what was read can be true.
            refusals: errors besides this project's own that are a refusal.

        Raises:
            AssertionError: what was read cannot be true, or a refusal has several lines.
            Exception: what is no refusal.
        """
        try:
            found = read()
        except (UserError, ItemError, MachineError, *refusals) as error:
            assert "\n" not in str(error), error
            self.add(detected=1)
        except BaseException:
            self.add(internal_errors=1)
            raise
        else:
            sound = is_sound(found)
            self.add(**{"survived" if sound else "silently_accepted": 1})
            assert sound, found


def commit() -> str:
    """The commit of the working tree, and whether it was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", f":!{PAGE.relative_to(ROOT)}")
    return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")


def row(counts: Mapping[str, Any], of: str) -> str:
    """A row of the table in Markdown."""
    numbers = [counts[outcome] for outcome in OUTCOMES]
    return f"| {' | '.join([counts[NAME], of, *(f'{number:,}' for number in [sum(numbers), *numbers])])} |"


def table(rows: Mapping[str, str]) -> str:
    """The rows under their head, by name of the trial."""
    head = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    return "\n".join([*head, *(rows[name] for name in sorted(rows)), ""])


def rows_of(text: str) -> dict[str, str]:
    """Name of the trial -> its row, of a table that `table` made."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(f"| {NAME} ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def between(page: str, name: str) -> tuple[str, str, str]:
    """A page up to the mark of a generated part, the part, and the rest."""
    head, tail = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = page.partition(head)
    part, _, after = rest.partition(tail)
    return before + head, part, tail + after


def put(name: str, text: str) -> None:
    """Write a generated part of docs/reliability.md."""
    before, _, after = between(PAGE.read_text(encoding="utf-8"), name)
    PAGE.write_text(before + text + after, encoding="utf-8")

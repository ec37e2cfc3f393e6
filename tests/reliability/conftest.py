"""One table of all trials at the end of `make torture`, which sets TORTURE; the rows of those that ran go into docs/reliability.md."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.reliability import tally


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and name trials that failed before they counted anything."""
    if "TORTURE" not in os.environ:
        return
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.getreports(outcome) if one.when == "call"]
    counted = [(one, dict(one.user_properties)[tally.NAME]) for one in reports if tally.NAME in dict(one.user_properties)]
    failed = [one.nodeid for one in terminalreporter.getreports("failed") if tally.NAME not in dict(one.user_properties)]
    if not counted:
        return
    of = tally.commit()
    rows = {counts[tally.NAME]: tally.row(counts, of) for counts in _joined([counts for _, counts in counted])}
    terminalreporter.section("trials")
    terminalreporter.write(tally.table(rows))
    for name in failed:
        terminalreporter.write_line(f"failed without a count: {name}")
    kept = tally.rows_of(tally.between(tally.PAGE.read_text(encoding="utf-8"), "make torture")[1])
    tally.put("make torture", tally.table(kept | rows))


def _joined(every: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per trial: tests of one name add up."""
    joined: dict[str, dict[str, Any]] = {}
    for counts in every:
        before = joined.setdefault(counts[tally.NAME], {tally.NAME: counts[tally.NAME], **dict.fromkeys(tally.OUTCOMES, 0)})
        for outcome in tally.OUTCOMES:
            before[outcome] += counts[outcome]
    return list(joined.values())

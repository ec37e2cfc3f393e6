"""`iit-bench eval --suite all`: prints what came of each suite."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import typer

from iit_bench.errors import UserError


def evaluate_all_suites(given: Mapping[str, Any], quiet: bool, json: bool) -> None:
    """Run all suites of the options that were given; every suite that is whole is shown, whatever became of the others.

    Raises:
        UserError: bad input, or a suite failed.
        typer.Exit: some items failed.
    """
    from evaluators.runs.summary import server_text, summary_text
    from iit_bench.storage.runs import load_run_header
    from iit_bench.storage.tables import canonical_json
    from iit_bench.workflows.all_suites import evaluate_all

    outcome = evaluate_all(given, progress=not quiet)
    if json:
        results = {suite: dataclasses.asdict(result) for suite, result in outcome.results.items()}
        failed = {suite: str(error) for suite, error in outcome.failed.items()}
        page = None if outcome.page is None else str(outcome.page)
        print(canonical_json({"suites": results, "left_out": outcome.left_out, "failed": failed, "report": page}))
    else:
        name = given.get("name") or given["out"].resolve().name
        shown = [summary_text(f"{name} ({suite})", result) for suite, result in outcome.results.items()]
        shown += [f"{name} ({suite}): not run, {reason}" for suite, reason in outcome.left_out.items()]
        print("\n".join([*shown, *([f"Leaderboard: {outcome.page}"] if outcome.page else [])]), flush=True)
    for suite in outcome.results:
        if told := server_text(load_run_header(given["out"] / suite)):
            print(f"suite {suite}: {told}", file=sys.stderr)
    if outcome.failed:
        said = [
            f"{'the report' if what == 'report' else f'suite {what}'} failed ({error if isinstance(error, UserError) else repr(error)})"
            for what, error in outcome.failed.items()
        ]
        raise UserError(f"{'; '.join(said)}; what else was done is kept") from next(iter(outcome.failed.values()))
    if not outcome.complete:
        print("iit-bench: some items failed for reasons of the machine; repeat the command to go on", file=sys.stderr)
        raise typer.Exit(1)

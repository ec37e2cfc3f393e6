"""`iit-bench eval --suite all`: prints the outcome of each suite."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import typer

from iit_bench.errors import OthersAtWork, UserError
from iit_bench.terminal import write

if TYPE_CHECKING:
    from evaluators.runs.options import RunOptions


def evaluate_all_suites(options: RunOptions, *, progress: bool, json: bool) -> None:
    """Run all suites and print the results of every suite that is complete, even if others failed.

    Raises:
        UserError: bad input, or a suite failed.
        typer.Exit: more items of a suite failed than are allowed, or some for reasons of the machine.
    """
    from evaluators.runs.marks import unsealed_at, unsealed_note
    from evaluators.runs.summary import exceeds, server_text, summary_text, too_many_failed
    from iit_bench.progress import notice
    from iit_bench.storage import anew
    from iit_bench.storage.runs import load_errors, load_run_header
    from iit_bench.storage.tables import canonical_json
    from iit_bench.workflows.all_suites import evaluate_all

    outcome = evaluate_all(options, progress=progress)
    errors = {suite: load_errors(options.out / suite) for suite in outcome.results}
    marked = {suite: unsealed_at(options.out / suite) for suite in outcome.results}
    if json:
        results = {suite: dataclasses.asdict(result) for suite, result in outcome.results.items()}
        failed = {suite: str(error) for suite, error in outcome.failed.items()}
        page = None if outcome.page is None else str(outcome.page)
        write(canonical_json({"suites": results, "left_out": outcome.left_out, "failed": failed, "report": page}), json=True)
        if note := unsealed_note([one for names in marked.values() for one in names]):
            notice(note)
    else:
        name = options.name or options.out.resolve().name
        lines = [summary_text(f"{name} ({suite})", result, errors[suite], marked[suite]) for suite, result in outcome.results.items()]
        lines += [f"{name} ({suite}): not run, {reason}" for suite, reason in outcome.left_out.items()]
        write("\n".join([*lines, *([f"Leaderboard: {outcome.page}"] if outcome.page else [])]), flush=True)
    for suite, result in outcome.results.items():
        if result.advice:
            notice(f"suite {suite}: {result.advice}")
        if usage := server_text(load_run_header(options.out / suite)):
            write(f"suite {suite}: {usage}", file=sys.stderr)
    allowed = options.allow_errors
    many = {suite: why for suite, result in outcome.results.items() if (why := too_many_failed(result, errors[suite], allowed))}
    if outcome.failed:
        reasons = [
            f"{'the report' if what == 'report' else f'suite {what}'} failed ({error if isinstance(error, UserError) else repr(error)})"
            for what, error in outcome.failed.items()
        ]
        reasons += [f"suite {suite}: {why}" for suite, why in many.items()]
        raise UserError(f"{'; '.join(reasons)}; everything else is kept") from next(iter(outcome.failed.values()))
    if outcome.elsewhere:
        raise OthersAtWork("; ".join(f"suite {suite}: {error}" for suite, error in outcome.elsewhere.items()))
    for suite, why in many.items():
        notice(f"suite {suite}: {why}")
    if not outcome.complete:
        notice(anew.resumable("some items failed for reasons of the machine; repeat the command to resume"))
    if any(exceeds(result, allowed) for result in outcome.results.values()):
        raise typer.Exit(1)

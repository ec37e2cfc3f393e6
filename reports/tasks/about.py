"""How the runs of the suites text and vqa were done, and what failed in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.storage.runs import TaskRun, folder_label
from iit_bench.types import OUTCOMES
from reports.cells import Cell, Column, Table, count_cell, number_cell, text_cell
from reports.models import ModelRow, Models
from reports.shared import SUITE_NAMES, RunCard, row_cell, run_facts, seconds_cell, tokens_cell, tool_badge


def _runs(models: Models) -> list[tuple[ModelRow, TaskRun]]:
    return [(row, models.runs[place]) for row in models.rows for place in row.runs]


def runs_table(models: Models) -> Table | None:
    """One line per run of the suites text and vqa, or None where there is none."""
    rows = [_line(row, run) for row, run in _runs(models)]
    columns = (
        Column("model", words=True),
        Column("suite", words=True),
        Column("made by", words=True),
        Column("run", words=True),
        Column("tasks"),
        *(Column(outcome) for outcome in OUTCOMES),
        Column("time"),
        Column("tokens"),
        Column("state", words=True),
    )
    caption = (
        "Runs of the suites text and VQA. Items by outcome: unparsed is a reply without a recognisable answer, truncated one that ended "
        "in its reasoning or at the token limit without one; an error was never answered, and counts as wrong."
    )
    if any(run.results.suite == "vqa" for _, run in _runs(models)):
        caption += " The VQA suite reads replies by VLMEvalKit's own rule, under which “**Yes**” is no answer and “-5” is “5”; "
        caption += "the IIT suite has its own."
    return Table("suite-runs", caption, columns, tuple(rows)) if rows else None


def _line(row: ModelRow, run: TaskRun) -> tuple[Cell, ...]:
    outcomes = run.results.outcomes
    known = any(outcomes.values())  # not where another tool's figures came without their items
    state = "every item finished" if run.results.complete else "stopped by errors of the machine; it can be resumed"
    return (
        row_cell(row),
        text_cell(SUITE_NAMES[run.results.suite]),
        text_cell(str(run.run.get("tool", "iit-bench"))),
        text_cell(_place(run)),
        number_cell(sum(result.members is None for result in run.results.tasks)),
        *(number_cell(outcomes.get(outcome, 0)) if known else count_cell(0) for outcome in OUTCOMES),
        seconds_cell(run.run.get("seconds")),
        tokens_cell(run.run.get("tokens")),
        text_cell(state),
    )


def _place(run: TaskRun) -> str:
    return run.path.name if "tool" in run.run else folder_label(run.path)


def cards(models: Models) -> tuple[RunCard, ...]:
    """One card per run of the suites text and vqa: the model, the fields of run.json, and the command."""
    return tuple(_card(row, run) for row, run in _runs(models))


def _card(row: ModelRow, run: TaskRun) -> RunCard:
    head = Cell(row.name, style=row_cell(row).style, badges=(*tool_badge(run), run.results.suite), words=True)
    return RunCard(head, run_facts(run.run, _place(run)), str(run.run["command"]))


def errors(models: Models) -> list[tuple[Cell, Sequence[Mapping[str, Any]]]]:
    """As `about.errors` takes them."""
    return [(row_cell(row), run.errors) for row, run in _runs(models)]


def incomplete(models: Models) -> list[str]:
    """Names of models with a run that was stopped by errors of the machine."""
    return list(dict.fromkeys(row.name for row, run in _runs(models) if not run.results.complete))


def unsealed(models: Models) -> list[str]:
    """Names of models with a run with files that no checksum covers."""
    return list(dict.fromkeys(row.name for row, run in _runs(models) if run.unsealed))

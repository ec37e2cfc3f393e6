"""The leaderboard's sections over all suites: every model's scores, and what tuning cost on text-only tasks."""

from __future__ import annotations

from collections.abc import Sequence

from iit_bench.storage.runs import TaskRun
from iit_bench.types import TaskSuite
from reports.entries import Group
from reports.models import Models, apart
from reports.section import Folded, Part, Section, Words, none, tables
from reports.shared import SUITE_NAMES
from reports.tasks import overview
from reports.tasks.forgetting import SuiteForgetting, suite_forgetting

_TESTS = "Accuracies, retention, tests, discordant pairs and detectable differences"


def all_suites(models: Models, groups: Sequence[Group]) -> list[Section]:
    """The table over all suites, where the page has more than one table of IIT, and forgetting on text tasks, where it has suites."""
    if not models.runs and len(groups) < 2:
        return []
    details = [table for suite in SUITE_NAMES if (table := overview.scores(models, suite))]
    parts: list[Part] = [*tables(overview.overview(models, groups)), *(Words(sentence, "fine") for sentence in apart(models))]
    for table in details:
        suite = table.caption.split(":")[0]
        parts.append(Folded(f"{suite}: every metric of every task, and how it was asked", tables(table)))
    return [Section("overview", "All suites" if groups else "Scores", tuple(parts))]


def forgotten(models: Models, bases: Sequence[TaskRun]) -> list[Section]:
    """What was forgotten on text-only tasks, and on VQA tasks where the base has some; nothing where the page has no run of a suite."""
    if not models.runs:
        return []
    made = []
    headings: dict[TaskSuite, str] = {"text": "Forgetting on text-only tasks", "vqa": "Lost on VQA tasks"}
    for suite, heading in headings.items():
        found = suite_forgetting(models, bases, suite)
        if found is not None:
            made.append(_section(f"{suite}-forgetting", heading, found))
        elif suite == "text":
            why = "the page has no pair of a text run and the text run of its base LLM (iit-bench report … --base RUN)."
            made.append(none("text-forgetting", heading, why))
    return made


def _section(key: str, heading: str, found: SuiteForgetting) -> Section:
    shown: tuple[Part, ...] = (*tables(found.matrix), Folded(_TESTS, tables(found.details))) if found.matrix.rows else ()
    left_out = (Words(f"{name}: {reason}", "fine") for name, reason in found.left_out)
    return Section(key, heading, (*shown, *left_out))

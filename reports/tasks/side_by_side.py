"""Two models side by side on tasks of the suites text and vqa: paired figures, and the items that changed hands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluators.compare.tasks import TaskComparison, by_reason, matched
from evaluators.show.task_words import TaskWords
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.types import TASK_SUITES, TRANSITIONS, TaskItem, TaskSuite
from iit_bench.visible import clipped
from reports import links
from reports.cells import PAIRED_COLUMNS, Cell, Column, Table, count, figure_cell, number_cell, paired_cells, percent, text_cell
from reports.entries import Entry
from reports.models import Models
from reports.samples.answers import item_id
from reports.section import Folded, Part, Section, TablePart, Words, none, tables
from reports.shared import SUITE_NAMES, settings_apart

SHOWN = 100  # items of a list
_LONGEST = 160  # characters of a question or a reply
Slugs = Mapping[int, str]  # id of a run -> its name in the explorer; empty where the report has none


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A task that both ran, with the items of both."""

    one: TaskComparison
    run_a: TaskRun
    run_b: TaskRun
    pairs: Sequence[tuple[TaskItem, TaskItem]]  # of right or wrong items; empty for a group, and where scores are not 0/1

    def of(self, transition: str) -> list[tuple[TaskItem, TaskItem]]:
        """The items of which that became, with A as the base."""
        right_in_a, right_in_b = {"lost": (True, False), "kept": (True, True), "gained": (False, True), "never": (False, False)}[transition]
        return [(a, b) for a, b in self.pairs if (a.score == 1, b.score == 1) == (right_in_a, right_in_b)]


def sections(a: Entry, b: Entry, models: Models, slugs: Slugs) -> Iterator[Section]:
    """A section per suite that one of the two models ran: A minus B task by task, and what changed hands."""
    row_a, row_b = (next((row for row in models.rows if row.entry is entry), None) for entry in (a, b))
    for suite in TASK_SUITES:
        runs_a, runs_b = (models.runs_of(row, suite) if row else [] for row in (row_a, row_b))
        if runs_a or runs_b:
            yield _section(suite, (a.name, b.name), (runs_a, runs_b), models, slugs)


def _section(
    suite: TaskSuite, names: tuple[str, str], runs: tuple[Sequence[TaskRun], Sequence[TaskRun]], models: Models, slugs: Slugs
) -> Section:
    key, heading = f"tasks-{suite}", SUITE_NAMES[suite]
    lacking = [name for name, mine in zip(names, runs, strict=True) if not mine]
    if lacking:
        return none(key, heading, f"{lacking[0]} has no run of this suite on this page.")
    found, left_out = _tasks(*runs)
    reasons = tuple(Words(f"Not compared: {sentence}.", "fine") for sentence in by_reason(left_out))
    if not found:
        return Section(key, heading, reasons)
    return Section(key, heading, (*tables(_figures(key, found, names, models)), *_hands(key, found, names, slugs), *reasons))


def _tasks(runs_a: Sequence[TaskRun], runs_b: Sequence[TaskRun]) -> tuple[list[_Task], dict[str, str]]:
    """The tasks of both, each once, and the others with the reason."""
    found: dict[str, _Task] = {}
    left_out: dict[str, str] = {}
    for run_a in runs_a:
        for run_b in runs_b:
            comparisons, apart = matched(run_a, run_b)
            for one in comparisons:
                found.setdefault(one.result.over, _Task(one=one, run_a=run_a, run_b=run_b, pairs=_pairs(one, run_a, run_b)))
            left_out |= apart
    return list(found.values()), {task: why for task, why in left_out.items() if task not in found}


def _pairs(one: TaskComparison, run_a: TaskRun, run_b: TaskRun) -> list[tuple[TaskItem, TaskItem]]:
    mine, theirs = (
        {item.item: item for item in run.items if (item.task, item.metric) == (one.result.over, one.metric)} for run in (run_a, run_b)
    )
    pairs = [(item, theirs[name]) for name, item in mine.items() if name in theirs]
    return pairs if one.best == 1 and all(item.score in (0, 1) for pair in pairs for item in pair) else []


def _figures(key: str, found: Sequence[_Task], names: tuple[str, str], models: Models) -> Table:
    columns = (Column("task", words=True), Column(names[0], ("A",), name=True), Column(names[1], ("B",), name=True), *PAIRED_COLUMNS)
    rows = []
    for task in found:
        one, column = task.one, models.column(task.run_a, task.one.result.over)
        asked = settings_apart(models, column) if column else []
        name = text_cell(one.result.over, lines=[one.metric, *asked, *(["group"] if one.group else [])])
        if one.best == 1:
            rows.append((name, figure_cell(one.a), figure_cell(one.b), *paired_cells(one.result)))
    caption = (
        f"{names[0]} (A) minus {names[1]} (B) over the same items, in percentage points: positive is what B lost. Holm: over the tasks, "
        "and by itself over those inside groups. Tasks whose scores are no fractions are in the table of all figures on the leaderboard."
    )
    return Table(f"{key}-difference", caption, columns, tuple(rows))


# ---------------------------------------------------------------- what changed hands


def _hands(key: str, found: Sequence[_Task], names: tuple[str, str], slugs: Slugs) -> tuple[Part, ...]:
    told = [task for task in found if task.pairs]
    if not told:
        return (Words("No task of both has items that are right or wrong.", "none"),)
    lists: list[Part] = []
    for transition in ("lost", "gained"):
        moved = [(task, pair) for task in told for pair in task.of(transition)]
        was, now = names if transition == "lost" else names[::-1]
        words = f"{count(len(moved))} items that {names[1]} {transition}: right in {was}, wrong in {now}"
        left = f" Shown are the first {SHOWN} of {count(len(moved))}." if len(moved) > SHOWN else ""
        table = _list(f"{key}-{transition}", f"{words}.{left}", moved[:SHOWN], names, slugs)
        lists.append(Folded(words, (TablePart(table),)) if moved else Words(f"{names[1]} {transition} no item.", "none"))
    return (TablePart(_counts(key, told, names)), *lists)


def _counts(key: str, told: Sequence[_Task], names: tuple[str, str]) -> Table:
    columns = (
        Column("task", words=True),
        Column("lost", (f"right in {names[0]} only",)),
        Column("gained", (f"right in {names[1]} only",)),
        Column("kept", ("right in both",)),
        Column("never", ("wrong in both",)),
        Column("n", ("items",)),
        Column("lost of what was right", ("%",)),
    )
    rows = []
    for task in told:
        counts = {name: len(task.of(name)) for name in TRANSITIONS}
        right = counts["lost"] + counts["kept"]
        share = number_cell(counts["lost"] / right, percent(counts["lost"] / right)) if right else text_cell("nothing was right", sort=None)
        cells = (number_cell(counts[name]) for name in ("lost", "gained", "kept", "never"))
        rows.append((text_cell(task.one.result.over), *cells, number_cell(len(task.pairs)), share))
    return Table(f"{key}-hands", "Items of both, by what became of them; a failed item counts as wrong.", columns, tuple(rows))


def _list(key: str, caption: str, moved: Sequence[tuple[_Task, tuple[TaskItem, TaskItem]]], names: tuple[str, str], slugs: Slugs) -> Table:
    words = {id(task.run_a): TaskWords(task.run_a) for task, _ in moved} if slugs else {}
    rows = []
    for task, (a, b) in moved:
        known = _asked(words[id(task.run_a)], a) if slugs else ()
        slug = slugs.get(id(task.run_b))
        name = replace(text_cell(a.item), href=links.at(links.item(slug, item_id(b.task, b.item)), 1)) if slug else text_cell(a.item)
        rows.append((name, text_cell(a.task), *map(text_cell, known), *(_reply(item) for item in (a, b))))
    columns = (
        Column("item", words=True),
        Column("task", words=True),
        *((Column("question", words=True), Column("right answer", words=True)) if slugs else ()),
        Column(names[0], ("its answer",), words=True),
        Column(names[1], ("its answer",), words=True),
    )
    return Table(key, caption, columns, tuple(rows))


def _asked(words: TaskWords, item: TaskItem) -> tuple[str, str]:
    """The question's end, which is what tells it from others behind the same examples, and the right answer."""
    try:
        asked = words.asked(item)
    except UserError:  # damaged files of the tool
        return "not at hand", "not at hand"
    text = " ".join("\n\n".join(asked.turns).split())
    right = asked.choices[asked.answer] if asked.answer is not None else ""
    return (text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}") or "not at hand", clipped(right, _LONGEST) or "not recorded"


def _reply(item: TaskItem) -> Cell:
    return text_cell(
        clipped(" ".join(item.reply.split()), _LONGEST) or "nothing", lines=[] if item.outcome in ("correct", "wrong") else [item.outcome]
    )

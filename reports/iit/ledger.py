"""The section of a model's page on its forgetting ledger: what it lost, kept, gained and never had against its base, item by item."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators import statistics
from evaluators.iit.ledger import are_repeats, ledger, noise_floor
from iit_bench.types import TRANSITIONS, Figure, Ledger, LedgerPart, LostItem, Question
from iit_bench.visible import clipped
from reports import links
from reports.cells import Cell, Column, Table, count, figure_cell, in_percent, interval, text_cell
from reports.section import Folded, Part, Section, TablePart, Words, none
from reports.subject import Subject

KEY, HEADING = "ledger", "What it lost and kept"
SHOWN = 15  # lost items that are open to see
MOST = 500  # lost items on the page
QUESTION = 160  # characters of a question
OPEN = ("all", "tier", "history", "turn")  # parts that are open to see


def ledger_section(subject: Subject) -> Section | None:
    """The ledger of a run that has a base; None for any other."""
    forgotten = subject.entry.run.results.forgetting
    if forgotten is None:
        return None
    found = forgotten.ledger
    if found is None and subject.base is not None:
        found = ledger(subject.entry.turns, subject.base.turns)
    if found is None:
        return none(
            KEY, HEADING, f"the base run {forgotten.base_run!r} is not on this page, and this run was made before there were ledgers"
        )
    whole = found.parts[0]
    rest = [part for part in found.parts if part.by not in OPEN]
    return Section(
        KEY,
        HEADING,
        (
            Words(in_words(whole, forgotten.base), "lead"),
            TablePart(_parts_table("ledger-parts", _CAPTION, [part for part in found.parts if part.by in OPEN])),
            Words(_floor_in_words(subject, whole), "fine"),
            Folded("By source and subject", (TablePart(_parts_table("ledger-subjects", _CAPTION, rest)),)),
            *_lost(subject, found),
        ),
    )


_CAPTION = (
    "Items by what became of them: lost = right in the base only, kept = right in both, gained = right here only, never = right in "
    "neither. In % of the items, with 95% interval. Corrected: without lucky guesses, of which one in k is right among k choices; not "
    "clipped, so noise may leave 0 to 100. Where both guess alike, lost and gained are too low, kept and never too high. Few: "
    "fewer than 20 items are so, or fewer than 20 are not; there "
    "an interval holds the true rate in 90–99% of simulated runs, elsewhere in about 95%."
)


def in_words(whole: LedgerPart, base: str) -> str:
    """The pool of a ledger in two sentences."""
    figures, n = whole.corrected, sum(whole.counts.values())
    if not n:
        return f"No text target was finished both here and in {base}."
    lost, gained = (f"{in_percent(figures[name].value or 0.0)} ({interval(figures[name])})" for name in ("lost", "gained"))
    alike = (
        " An interval is wholly below 0, so both seem to guess alike: then lost and gained are too low, kept and never too high."
        if statistics.guess_alike(figures)
        else ""
    )
    return (
        f"Of {count(n)} answers to text targets, {count(whole.counts['lost'])} are lost: right in {base}, wrong here; "
        f"{count(whole.counts['gained'])} are gained, {count(whole.counts['kept'])} kept. "
        f"Corrected for lucky guesses, {lost} are lost and {gained} gained.{alike}"
    )


def _parts_table(key: str, caption: str, parts: Sequence[LedgerPart]) -> Table:
    columns = (
        Column("part", words=True),
        Column("by", words=True),
        Column("n", ("items",)),
        *(Column(name, over="of the items") for name in TRANSITIONS),
        *(Column(name, over="corrected for lucky guesses", divider=name == "lost") for name in TRANSITIONS),
    )
    return Table(key, caption, columns, tuple(_part_row(part) for part in parts))


def _part_row(part: LedgerPart) -> tuple[Cell, ...]:
    n = sum(part.counts.values())
    raw = [_with_count(part.rates[name], part.counts[name]) for name in TRANSITIONS]
    corrected = [_corrected(part.corrected[name]) for name in TRANSITIONS]
    return (text_cell(part.part), text_cell(part.by), Cell(count(n), few_in_words(part), n), *raw, *corrected)


def few_in_words(part: LedgerPart) -> tuple[str, ...]:
    """The mark of a part's row: the transitions whose rates rest on few items; nothing where none does."""
    few = statistics.few_items(part.counts)
    return (f"few: {'all' if len(few) == len(TRANSITIONS) else ', '.join(few)}",) if few else ()


def _with_count(figure: Figure, n: int) -> Cell:
    cell = figure_cell(figure, show_n=False)
    return cell if cell.missing else Cell(cell.text, (*cell.lines, count(n)), cell.sort, cell.title)


def _corrected(figure: Figure) -> Cell:
    cell = figure_cell(figure, show_n=False)
    outside = (figure.note.partition(":")[0],) if figure.value is not None and figure.note else ()
    return cell if cell.missing else Cell(cell.text, (*cell.lines, *outside), cell.sort, cell.title)


# ---------------------------------------------------------------- noise


def repeats(subject: Subject) -> list[str]:
    """Names of the runs of the page that repeat the subject's."""
    mine = subject.entry
    return [other.name for other in subject.group.entries if other is not mine and are_repeats(mine.header, other.header)]


def _floor_in_words(subject: Subject, whole: LedgerPart) -> str:
    named = repeats(subject)
    if not named:
        return (
            "Noise floor: no repeat of this run is on the page. Scored choices and greedy replies depend on the weights only, up to "
            "rounding, so a repeat would lose next to nothing; a server that samples may not be so."
        )
    others = [entry.turns for entry in subject.group.entries if entry.name in named]
    floor = noise_floor([subject.entry.turns, *others])
    if floor.value is None:
        return f"Noise floor: {floor.note}."
    half = in_percent(floor.value / 2)
    return (
        f"Noise floor: this run and its repeats ({', '.join(named)}) disagree in {in_percent(floor.value)} of {count(floor.n)} text "
        f"targets ({interval(floor)}), so {half} would be lost, and as many gained, with nothing forgotten; "
        f"{in_percent(whole.rates['lost'].value or 0.0)} are lost against the base."
    )


# ---------------------------------------------------------------- lost items


def _lost(subject: Subject, found: Ledger) -> tuple[Part, ...]:
    if not found.lost:
        return (Words("No item was lost.", "none"),)
    shown, more = found.lost[:SHOWN], found.lost[SHOWN:MOST]
    caption = f"Lost items, those lost in most tiers first: {count(len(found.lost))} questions."
    parts: list[Part] = [TablePart(_lost_table("ledger-lost", caption, shown, subject))]
    if more:
        table = _lost_table("ledger-lost-more", "Lost items, continued.", more, subject)
        parts.append(Folded(f"{count(len(more))} more lost items", (TablePart(table),)))
    if len(found.lost) > MOST:
        left = count(len(found.lost) - MOST)
        parts.append(Words(f"{left} more are in results.json of the run (forgetting, ledger, lost).", "fine"))
    return tuple(parts)


def _lost_table(key: str, caption: str, items: Sequence[LostItem], subject: Subject) -> Table:
    columns = (
        Column("item", words=True),
        Column("question", words=True),
        Column("answer", words=True),
        Column("subject", words=True),
        Column("lost in", ("tiers",)),
        Column("first of them", words=True),
    )
    questions = {} if subject.benchmark is None else subject.benchmark.questions
    return Table(key, caption, columns, tuple(_lost_row(item, subject, questions.get(item.question)) for item in items))


def _lost_row(item: LostItem, subject: Subject, question: Question | None) -> tuple[Cell, ...]:
    asked = (question.question, question.answer_text) if question else ("not at hand", "not at hand")
    words = [clipped(text, QUESTION) for text in asked]
    n = len(item.dialogues)
    first = clipped(item.dialogues[0], QUESTION)
    place = "" if subject.no_samples else links.at(links.item(subject.entry.slug, item.dialogues[0]), 1)
    return (
        text_cell(clipped(item.question, QUESTION)),
        text_cell(words[0]),
        text_cell(words[1]),
        text_cell(clipped(item.subject, QUESTION), lines=(clipped(item.source, QUESTION),)),
        Cell(str(n), (f"of {item.n}",), n),
        Cell(first, sort=first, words=True, href=place),
    )

"""The benchmark page's section on what visual questions need, and on the share solved without images (docs/spec/iit.md#what-items-need)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluators.arms.needs import NEEDS, ItemNeed, Needs, needs_of, ranked
from iit_bench.types import Question
from iit_bench.visible import clipped
from reports import links
from reports.cells import Cell, Column, Table, count, figure_cell, in_percent, interval, number_cell, percent, text_cell
from reports.entries import Entry
from reports.section import Folded, Part, Section, TablePart, Words
from reports.shared import name_cell

KEY, HEADING = "needs", "Solvable without the image"
SHOWN = 20  # items at either end that are open to see
MOST = 300  # items of the folded list
LONGEST = 160  # characters of a question


def needs(every: Sequence[Entry], questions: Mapping[str, Question] | None = None, *, linked: bool = True) -> Section | None:
    """What the visual targets of runs need, for a page in the report's folder; None where no run was asked without its images.

    Args:
        every: runs of one benchmark.
        questions: of the benchmark, by id; None where it is not at hand.
        linked: items lead to the explorer.
    """
    found = [(entry, of_entry) for entry in every if (of_entry := needs_of(entry.run, entry.turns)) is not None]
    if not found:
        return None
    parts: list[Part] = [Words(in_words(found), "lead"), TablePart(_by_model(found))]
    answers = [(entry, one.answers) for entry, one in found if one.answers]
    if answers:
        items = ranked([rows for _, rows in answers])
        entries = [entry for entry, _ in answers]
        parts += _items(items, entries, questions or {}, linked)
    else:
        parts.append(Words("Items cannot be ranked by what they need: no run was asked without its words (arm wordless).", "none"))
    return Section(KEY, HEADING, tuple(parts))


def in_words(found: Sequence[tuple[Entry, Needs]]) -> str:
    """The share that the best model solves without the image, in a sentence."""
    entry, best = max(found, key=lambda one: one[1].solvable_blind.value or 0.0)
    share = best.solvable_blind
    among = f" of {count(len(found))} models" if len(found) > 1 else ""
    if share.value is None:
        return f"How much is solvable without the image is not known: {share.note}."
    verb = "solves the most" if len(found) > 1 else "solves"
    return (
        f"{in_percent(max(0.0, share.value))} of the visual questions are solvable without the image ({interval(share)}): "
        f"{entry.name}{among} {verb} so, with {in_percent(best.blind.value or 0.0)} right where guessing gets {in_percent(best.chance)}."
    )


def _by_model(found: Sequence[tuple[Entry, Needs]]) -> Table:
    columns = (
        Column("model", words=True),
        Column("without image", ("accuracy, %",)),
        Column("chance", ("%",)),
        Column("solvable", ("without image, %",)),
        Column("solvable", ("without words, %",)),
        *(Column(words, over="of the items, %", divider=need == "text") for need, words in NEEDS.items()),
    )
    caption = (
        "Visual targets asked again without their image, and without their words. Solvable: accuracy above guessing, (accuracy − chance) / "
        "(1 − chance), which noise may take below 0. What items need: text is enough where only the answer without the image is right, and "
        "so on, lucky guesses among them."
    )
    return Table("needs-models", caption, columns, tuple(_row(entry, one) for entry, one in found))


def _row(entry: Entry, one: Needs) -> tuple[Cell, ...]:
    shares = [figure_cell(one.shares[need], show_n=need == "text") if one.shares else Cell("–") for need in NEEDS]
    chance = number_cell(one.chance, percent(one.chance))
    return (name_cell(entry), figure_cell(one.blind), chance, figure_cell(one.solvable_blind), figure_cell(one.solvable_wordless), *shares)


def _items(items: Sequence[ItemNeed], entries: Sequence[Entry], questions: Mapping[str, Question], linked: bool) -> list[Part]:
    """Both ends of the list, and the list."""
    caption = "Right answers over models and tiers, of so many: with image and words, without the image, without the words."
    first, last = items[:SHOWN], [item for item in reversed(items) if item.rank < 0 or not item.blind][:SHOWN]
    parts: list[Part] = [
        TablePart(_table("needs-text", f"Questions that need their image least. {caption}", first, entries, questions, linked))
    ]
    if len(items) > SHOWN and last:
        parts.append(TablePart(_table("needs-image", f"Questions that need their image most. {caption}", last, entries, questions, linked)))
    if len(items) > 2 * SHOWN:
        shown = items[SHOWN:MOST]
        words = f"The next {count(len(shown))} of {count(len(items))} questions, in the order of the first table"
        parts.append(Folded(words, (TablePart(_table("needs-all", f"{words}. {caption}", shown, entries, questions, linked)),)))
    return parts


def _table(
    key: str, caption: str, items: Sequence[ItemNeed], entries: Sequence[Entry], questions: Mapping[str, Question], linked: bool
) -> Table:
    columns = (
        Column("item", words=True),
        Column("question", words=True),
        Column("answer", words=True),
        Column(
            "answers",
        ),
        Column("right", ("image and words",)),
        Column("right", ("without image",)),
        Column("right", ("without words",)),
    )
    return Table(key, caption, columns, tuple(_item_row(item, entries, questions, linked) for item in items))


def _item_row(item: ItemNeed, entries: Sequence[Entry], questions: Mapping[str, Question], linked: bool) -> tuple[Cell, ...]:
    asked = questions.get(item.question)
    words = (clipped(asked.question, LONGEST), clipped(asked.answer_text, LONGEST)) if asked else ("not at hand", "not at hand")
    run, dialogue = item.dialogues[0]
    name = clipped(item.question, LONGEST)
    place = links.item(entries[run].slug, dialogue) if linked else ""
    counts = [number_cell(n, count(n)) for n in (item.n, item.right, item.blind, item.wordless)]
    return (Cell(name, sort=name, words=True, href=place), text_cell(words[0]), text_cell(words[1]), *counts)

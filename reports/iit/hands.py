"""The items that changed hands between two runs: right in one and wrong in the other, by tier and question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluators.iit.columns import Turns
from evaluators.iit.comparison import pair_targets
from evaluators.iit.ledger import transition_codes
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import TRANSITIONS
from reports import links
from reports.cells import Cell, Column, Table, count, number_cell, percent, text_cell
from reports.entries import Entry
from reports.section import Folded, Part, Section, TablePart, Words

SHOWN = 100  # questions of a list


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One question that changed hands under some tiers."""

    question: str
    dialogues: tuple[tuple[str, str], ...]  # (tier, dialogue) in which it did, in tier order
    asked: int  # tiers under which both finished it


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What became of the items of run A in run B, over the targets that both finished."""

    by_tier: Mapping[str, Mapping[str, int]]  # tier -> transition -> items
    lost: Sequence[Moved]  # the most often lost questions first
    gained: Sequence[Moved]

    @property
    def total(self) -> dict[str, int]:
        """Transition -> items of all tiers."""
        return {name: sum(counts[name] for counts in self.by_tier.values()) for name in TRANSITIONS}


def hands(a: Turns, b: Turns) -> Hands:
    """From the turns of two runs that passed `check_comparable`.

    Raises:
        UserError: a pair does not ask the same question with the same choices.
    """
    by_tier: dict[str, dict[str, int]] = {}
    moved: dict[str, dict[str, list[tuple[str, str]]]] = {"lost": {}, "gained": {}}
    asked: dict[str, int] = {}
    for tier, pairs in pair_targets(a, b).items():
        done = pairs.finished()
        of = transition_codes(done)
        by_tier[tier] = {name: int(np.sum(of == code)) for code, name in enumerate(TRANSITIONS)}
        for code in done.a.question.code:
            name = done.a.question.names[code]
            asked[name] = asked.get(name, 0) + 1
        for name, found in moved.items():
            for row in np.flatnonzero(of == TRANSITIONS.index(name)):
                question = done.a.question.names[done.a.question.code[row]]
                found.setdefault(question, []).append((tier, done.a.dialogue.names[done.a.dialogue.code[row]]))
    return Hands(by_tier=by_tier, lost=_ordered(moved["lost"], asked), gained=_ordered(moved["gained"], asked))


def _ordered(found: Mapping[str, list[tuple[str, str]]], asked: Mapping[str, int]) -> tuple[Moved, ...]:
    moved = (Moved(question=name, dialogues=tuple(where), asked=asked[name]) for name, where in found.items())
    return tuple(sorted(moved, key=lambda one: (-len(one.dialogues), one.question)))


# ---------------------------------------------------------------- the section


def section(found: Hands, a: Entry, b: Entry, benchmark: Benchmark | None, explorer: bool) -> Section:
    """Counts by tier, then the questions lost and gained, the most often lost first, each with its items.

    Args:
        explorer: the report has the pages of samples, so that items can be linked to.
    """
    parts: list[Part] = [TablePart(_counts(found, a, b))]
    if benchmark is None:
        parts.append(
            Words("The benchmark's folder is not at hand, so questions are shown by their ids (`iit-bench report … --bench DIR`).", "fine")
        )
    for name, moved in (("lost", found.lost), ("gained", found.gained)):
        was, now = (a, b) if name == "lost" else (b, a)
        words = f"{count(len(moved))} questions that {b.name} {name}: right in {was.name}, wrong in {now.name}"
        if not moved:
            parts.append(Words(f"{b.name} {name} no item.", "none"))
            continue
        left = f" Shown are the first {SHOWN} of {count(len(moved))}." if len(moved) > SHOWN else ""
        leads = " A tier leads to the item." if explorer else ""
        caption = f"{words}; those under most tiers first.{leads}{left}"
        table = _list(f"{name}-items", caption, moved[:SHOWN], a, b, benchmark, explorer)
        parts.append(TablePart(table) if name == "lost" else Folded(words, (TablePart(table),)))
    return Section("hands", "Items that changed hands", tuple(parts))


def _counts(found: Hands, a: Entry, b: Entry) -> Table:
    columns = (
        Column("tier", words=True),
        Column("lost", (f"right in {a.name} only",)),
        Column("gained", (f"right in {b.name} only",)),
        Column("kept", ("right in both",)),
        Column("never", ("wrong in both",)),
        Column("n", ("items",)),
        Column("lost of what was right", ("%",)),
    )
    lines = {**found.by_tier, "all": found.total} if len(found.by_tier) > 1 else found.by_tier
    rows = []
    for tier, counts in lines.items():
        right = counts["lost"] + counts["kept"]
        share = counts["lost"] / right if right else None
        of_right = (
            number_cell(share, "" if share is None else percent(share)) if share is not None else text_cell("nothing was right", sort=None)
        )
        rows.append(
            (
                text_cell(tier),
                *(number_cell(counts[name]) for name in ("lost", "gained", "kept", "never")),
                number_cell(sum(counts.values())),
                of_right,
            )
        )
    return Table("hands-counts", "Items that both models finished, by what became of them.", columns, tuple(rows))


def _list(key: str, caption: str, moved: Sequence[Moved], a: Entry, b: Entry, benchmark: Benchmark | None, explorer: bool) -> Table:
    said = [_replies(entry, {one.dialogues[0][1] for one in moved}) for entry in (a, b)]
    rows = []
    for one in moved:
        tier, dialogue = one.dialogues[0]
        question = benchmark.questions.get(one.question) if benchmark else None
        text = question.question if question else one.question
        tiers = tuple((name, links.at(links.item(b.slug, of_tier), 1)) for name, of_tier in one.dialogues)
        shown = Cell("", links=tiers, words=True) if explorer else text_cell(", ".join(name for name, _ in tiers))
        where = replace(shown, lines=(f"{len(tiers)} of {one.asked} tiers",), sort=len(tiers))
        rows.append(
            (
                text_cell(_short(text), lines=[one.question] if question else []),
                where,
                text_cell(_short(question.answer_text if question else said[0].get(dialogue, ("", ""))[1]) or "not recorded"),
                *(text_cell(_short(replies.get(dialogue, ("", ""))[0]) or "nothing", lines=[f"under {tier}"]) for replies in said),
            )
        )
    columns = (
        Column("question", words=True),
        Column("under", words=True),
        Column("right answer", words=True),
        Column(a.name, ("its answer",), words=True),
        Column(b.name, ("its answer",), words=True),
    )
    return Table(key, caption, columns, tuple(rows))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:159] + "…"


def _replies(entry: Entry, dialogues: set[str]) -> dict[str, tuple[str, str]]:
    """Dialogue -> (the target's answer, the right one), of few dialogues out of many."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = entry.run.prediction_columns(("dialogue", "is_target", "reply", "choices", "answer"))
    table = pa.table(dict(columns))
    wanted = pc.and_(table["is_target"], pc.is_in(table["dialogue"], value_set=pa.array(sorted(dialogues), type=table["dialogue"].type)))
    return {row["dialogue"]: (row["reply"], row["choices"][row["answer"]]) for row in table.filter(wanted).to_pylist()}

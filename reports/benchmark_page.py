"""The page about what was asked: counts, chance, what items need, use of histories, near-duplicates, licences, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Question, tier_order
from reports import gallery, links
from reports.cells import Column, Table, count, in_percent, number_cell, percent, text_cell
from reports.duplicates import near_duplicates
from reports.entries import Group, plain
from reports.folder import ReportFolder
from reports.iit import about
from reports.iit.front import keyed
from reports.iit.needs import HEADING, KEY, needs
from reports.pages import Page
from reports.section import Beside, Definitions, Part, Section, Words, none, tables

_GONE = "the benchmark's folder is not at hand, and run folders hold none of it (iit-bench report … --bench DIR)."


def benchmark_page(groups: Sequence[Group], benchmarks: Sequence[Benchmark | None], folder: ReportFolder, *, samples: bool = True) -> Page:
    """The page about the benchmarks of all groups, each once.

    Args:
        groups: of the report, at least one.
        benchmarks: of each group; None where its folder is not at hand.
        folder: of the report, where small pictures of images are written.
        samples: whether the report has an explorer, to which items lead.
    """
    sections: list[Section] = []
    titles: list[str] = []
    for number, (hash_of_rows, members) in enumerate(_by_benchmark(groups).items()):
        group = groups[members[0]]
        found = next((benchmarks[place] for place in members if benchmarks[place] is not None), None)
        name = plain(group.entries[0].header["benchmark"]["name"])
        titles.append(f"{name} ({hash_of_rows[:8]})")
        asked = needs([entry for place in members for entry in groups[place].entries], found.questions if found else None, linked=samples)
        made = _of_one(group, found, folder, name if number else "", asked)
        sections += [keyed(section, f"-{number}" if number else "") for section in made]
    return Page(
        place=links.BENCHMARK,
        stem="benchmark",
        title=f"What was asked: {', '.join(titles)}",
        headline=(_headline(groups[0], benchmarks[0]),),
        sections=tuple(sections),
    )


def _by_benchmark(groups: Sequence[Group]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(str(group.entries[0].header["benchmark"]["rows_sha256"]), []).append(place)
    return found


def _headline(group: Group, found: Benchmark | None) -> str:
    tiers: Mapping[str, Any] = group.entries[0].header["benchmark"]["tiers"]
    dialogues = sum(n for n in tiers.values() if isinstance(n, int))
    words = f"{count(dialogues)} dialogues in {len(tiers)} tiers"
    if found is None:
        return f"{words}."
    targets = [found.questions[name] for name in dict.fromkeys(dialogue.target for dialogue in found.dialogues)]
    chance = _chance(targets)
    kinds = Counter(question.modality for question in targets)
    return (
        f"{words} ask {count(kinds['T'])} text and {count(kinds['V'])} visual questions, of which guessing gets {in_percent(chance)} right."
    )


def _chance(questions: Sequence[Question]) -> float:
    return sum(1 / len(question.choices) for question in questions) / max(1, len(questions))


def _of_one(group: Group, found: Benchmark | None, folder: ReportFolder, name: str, asked: Section | None) -> list[Section]:
    entries = group.entries
    manifest: Mapping[str, Any] = found.manifest if found is not None else entries[0].header["benchmark"]
    after = f": {name}" if name else ""
    made = [
        Section("facts", f"Benchmark{after}", (Definitions(about.benchmark_facts(entries)),)),
        _counts(found, entries[0].header["benchmark"]),
        Section(
            "chance",
            "Reachable without understanding",
            tables(about.baselines(entries)) or none("", "", "the manifest holds no baselines.").parts,
        ),
        asked or none(KEY, HEADING, "no run on the page was asked again with its images removed (iit-bench arms RUN)."),
        _histories(manifest),
        _duplicates(found),
        Section("sources", "Sources and licences", tables(about.sources(entries)) or none("", "", "the manifest names no sources.").parts),
        _gallery(found, folder),
    ]
    return made


def _counts(found: Benchmark | None, header: Mapping[str, Any]) -> Section:
    """Dialogues by tier; targets by source and subject."""
    tiers: Mapping[str, Any] = header["tiers"]
    rows = tuple(
        (text_cell(tier), number_cell(tier.count("V") / len(tier), percent(tier.count("V") / len(tier))), number_cell(tiers[tier]))
        for tier in sorted(tiers, key=tier_order)
    )
    by_tier = Table(
        "by-tier",
        "Dialogues by tier, from text-only to multimodal-rich.",
        (Column("tier", words=True), Column("visual share", ("%",)), Column("dialogues")),
        rows,
    )
    parts: tuple[Part, ...] = tables(by_tier)
    if found is None:
        return Section("counts", "Counts", (*parts, Words(f"Targets by source and subject: not available, {_GONE}", "none")))
    targets = [found.questions[name] for name in dict.fromkeys(dialogue.target for dialogue in found.dialogues)]
    groups: dict[tuple[str, str, str], list[Question]] = {}
    for question in targets:
        groups.setdefault((question.modality, question.source, question.subject), []).append(question)
    lines = tuple(
        (
            text_cell(subject or "(no subject)", lines=[source]),
            text_cell("text" if modality == "T" else "visual"),
            number_cell(len(members)),
            number_cell(len({question.cluster for question in members})),
            number_cell(_chance(members), percent(_chance(members))),
            text_cell(", ".join(sorted({question.language for question in members}))),
        )
        for (modality, source, subject), members in sorted(groups.items())
    )
    columns = (
        Column("subject", ("source",), words=True),
        Column("kind", words=True),
        Column("targets"),
        Column("clusters", ("images, passages, facts",)),
        Column("chance", ("mean 1/k, %",)),
        Column("language", words=True),
    )
    return Section("counts", "Counts", (Beside((*parts, *tables(Table("by-subject", "Targets by source and subject.", columns, lines)))),))


def _histories(manifest: Mapping[str, Any]) -> Section:
    """How often questions and clusters serve as history, from the manifest."""
    heading, use, turns = "Use of histories", manifest.get("history_use"), manifest.get("history_turns")
    if not isinstance(use, Mapping) or not isinstance(turns, Mapping):
        return none("histories", heading, "the manifest that is at hand does not record it.")
    columns = (
        Column("modality", words=True),
        Column("questions", ("that serve as history",)),
        Column("clusters"),
        Column("cap", ("groups per cluster",)),
        Column("highest use", ("groups",)),
        Column("above cap", ("clusters",)),
    )
    rows = tuple(
        (
            text_cell("text" if kind == "T" else "visual"),
            *(number_cell(one.get(name)) for name in ("questions", "clusters", "cap", "highest", "clusters_above_cap")),
        )
        for kind, one in use.items()
        if isinstance(one, Mapping)
    )
    by_turn = tuple(
        (text_cell(tier), text_cell(f"turn {place + 1}"), number_cell(turn.get("questions")), number_cell(turn.get("clusters")))
        for tier in sorted(turns, key=tier_order)
        for place, turn in enumerate(turns[tier])
    )
    second = (Column("tier", words=True), Column("turn", words=True), Column("distinct questions"), Column("distinct clusters"))
    caption = "A cluster (image, passage, fact) may serve several histories, up to the cap; intervals count that."
    return Section(
        "histories",
        heading,
        tables(
            Table("history-use", caption, columns, rows),
            Table("history-turns", "Distinct questions and clusters by tier and turn.", second, by_turn),
        ),
    )


def _duplicates(found: Benchmark | None) -> Section:
    heading = "Near-duplicates"
    if found is None:
        return none("duplicates", heading, _GONE)
    return Section("duplicates", heading, near_duplicates(found))


def _gallery(found: Benchmark | None, folder: ReportFolder) -> Section:
    if found is None:
        return none("gallery", "Images", _GONE)
    return Section("gallery", "Images", gallery.write(found, folder))

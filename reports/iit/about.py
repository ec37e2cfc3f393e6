"""What was measured and how it was run: the page's parts that come from run.json and errors.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.storage.runs import folder_label
from iit_bench.types import OUTCOMES, tier_order
from reports.cells import Cell, Column, Table, count, missing_cell, number_cell, percent, text_cell
from reports.entries import Entry, baseline, plain
from reports.shared import Facts, RunCard, is_number, name_cell, run_facts, seconds_cell, tokens_cell

# Rules of the manifest's baselines, in reading order: what the page calls them, and what they do.
_BASELINES = {
    "random": ("random", "mean of 1/k"),
    "always_first": ("always first", "the first choice"),
    "majority": ("majority", "most common gold answer"),
    "choices_only": ("choices only", "question hidden"),
    "question_prior": ("question prior", "best answer per question text"),
}
_MODALITIES = {"T": "all text targets", "V": "all visual targets"}

# Fields of a source in the manifest.
_SOURCE = {
    "name": "source",
    "origin": "origin",
    "revision": "revision",
    "split": "split",
    "licence": "licence",
    "usable": "usable",
    "targets": "targets",
    "left_out": "left out",
}
# ---------------------------------------------------------------- the benchmark


def benchmark_facts(entries: Sequence[Entry]) -> Facts:
    """What was asked, from the first run's header: benchmark, tiers with their numbers of dialogues, scoring, style, history and limit."""
    header = entries[0].header
    benchmark = header["benchmark"]
    tiers: Mapping[str, Any] = benchmark["tiers"]
    total = sum(n for n in tiers.values() if isinstance(n, int))
    by_tier = "; ".join(f"{tier} {plain(tiers[tier])}" for tier in sorted(tiers, key=tier_order))
    limit = "no limit" if header["limit"] is None else f"limited to {plain(header['limit'])} groups"
    return (
        ("name", f"{plain(benchmark['name'])}, seed {plain(benchmark.get('seed'))}"),
        ("hash of its rows", plain(benchmark["rows_sha256"])),
        ("asked and scored", f"{plain(header['scoring'])}, {plain(header['style'])} style, {plain(header['history'])} history, {limit}"),
        ("dialogues per tier", f"{by_tier} ({count(total)} in all)"),
    )


def sources(entries: Sequence[Entry]) -> Table | None:
    """Where the questions come from, under which licence, and what was left out of them."""
    records = entries[0].header["benchmark"].get("sources")
    if not isinstance(records, Mapping) or not records:
        return None
    columns = tuple(Column(words, words=key not in ("usable", "targets")) for key, words in _SOURCE.items())
    rows = []
    for name, record in records.items():
        values: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
        cells = [text_cell(str(name))]
        for key in list(_SOURCE)[1:]:
            value = values.get(key)
            cells.append(number_cell(value) if is_number(value) else text_cell(_source_words(key, value)))
        rows.append(tuple(cells))
    return Table("sources", "Where the questions come from, and what was left out.", columns, tuple(rows))


def _source_words(key: str, value: Any) -> str:
    if key == "left_out" and isinstance(value, Mapping):
        return ", ".join(f"{plain(n)} {reason}" for reason, n in value.items()) or "none"
    return plain(value) or "none"


def baselines(entries: Sequence[Entry]) -> Table | None:
    """What is reachable without understanding, from the manifest: modalities and sources; subjects are in the breakdown."""
    manifest = entries[0].header["benchmark"].get("baselines")
    if not isinstance(manifest, Mapping) or not manifest:
        return None
    subjects = {f"{b.source}/{b.subject}" for entry in entries for b in entry.run.results.breakdown}
    parts = [part for part in manifest if part not in subjects]
    rows = tuple(
        (
            text_cell(_MODALITIES.get(part, part)),
            number_cell(baseline(entries, part, "n")),
            *(_baseline_cell(entries, part, rule) for rule in _BASELINES),
        )
        for part in parts
    )
    columns = (Column("targets", words=True), Column("n"), *(Column(words, (meaning,)) for words, meaning in _BASELINES.values()))
    caption = "Reachable without understanding, accuracy in %. A model must beat these before its score means anything."
    return Table("baselines", caption, columns, rows)


def _baseline_cell(entries: Sequence[Entry], part: str, rule: str) -> Cell:
    value = baseline(entries, part, rule)
    return missing_cell("could not be fitted for every source") if value is None else Cell(percent(value), sort=value)


# ---------------------------------------------------------------- the runs


def runs_table(entries: Sequence[Entry]) -> Table:
    """What was run, one line per model; everything else is in the run's card."""
    columns = (
        Column("run", words=True),
        Column("model", words=True),
        Column("parameters"),
        Column("precision", words=True),
        Column("device", words=True),
        Column("checkpoint", ("sha256",), words=True),
        Column("time"),
        Column("tokens"),
        Column("dialogues"),
        Column("resumed", ("times",)),
    )
    return Table("runs", "Time and tokens are of the scoring only, over all sessions.", columns, tuple(map(_run_row, entries)))


def _run_row(entry: Entry) -> tuple[Cell, ...]:
    header, model = entry.header, entry.model
    digest = str(model["checkpoint_sha256"])
    return (
        name_cell(entry),
        text_cell(plain(model["name"])),
        number_cell(model.get("parameters")),
        text_cell(plain(model.get("dtype"))),
        text_cell(plain(model.get("device"))),
        text_cell(digest[:12] if digest else "no checkpoint"),
        seconds_cell(header["seconds"]),
        tokens_cell(header["tokens"]),
        number_cell(entry.run.results.n_dialogues),
        number_cell(header["resumed"]) if is_number(header["resumed"]) else text_cell(plain(header["resumed"])),
    )


def run_cards(entries: Sequence[Entry]) -> tuple[RunCard, ...]:
    """One card per run, in order: the model, all fields of its run.json that the page has names for, and the command."""
    return tuple(
        RunCard(name_cell(entry), run_facts(entry.header, folder_label(entry.run.path)), str(entry.header["command"])) for entry in entries
    )


# ---------------------------------------------------------------- outcomes and errors


def outcomes(entries: Sequence[Entry]) -> Table:
    """Correct, wrong, unparsed and error, kept apart, per run."""
    rows = []
    for entry in entries:
        counts = entry.run.results.outcomes
        names = [*OUTCOMES, *sorted(set(counts) - set(OUTCOMES))]
        whole = "every item finished" if entry.run.results.complete else "stopped by errors of the machine; it can be resumed"
        rows.append((name_cell(entry), *(number_cell(counts.get(name, 0)) for name in names[: len(OUTCOMES)]), text_cell(whole)))
    columns = (Column("run", words=True), *(Column(name) for name in OUTCOMES), Column("state", words=True))
    caption = (
        "Outcomes of all targets. Unparsed: a reply without a recognisable choice, counted as wrong. Truncated: a reply that ended "
        "inside its reasoning, or at the token limit without a recognisable choice, counted as wrong. Error: never answered; left out of "
        "acc, counted as wrong in the strict figure."
    )
    return Table("outcomes", caption, columns, tuple(rows))


def errors(runs: Sequence[tuple[Cell, Sequence[Mapping[str, Any]]]]) -> Table | None:
    """Errors by kind and reason with counts, or None where there is none; `runs` has a run's name and its errors."""
    rows = []
    for head, lines in runs:
        reasons = Counter((str(error.get("kind", "")), str(error.get("reason", ""))) for error in lines)
        first = {(str(error.get("kind", "")), str(error.get("reason", ""))): str(error.get("detail", "")) for error in lines[::-1]}
        for (kind, reason), n in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            rows.append((head, text_cell(reason), text_cell(kind), number_cell(n), text_cell(first[kind, reason])))
    columns = (
        Column("run", words=True),
        Column("reason", words=True),
        Column("kind", words=True),
        Column("count"),
        Column("first", words=True),
    )
    caption = "Items that failed, by reason. Kind item: this model can never answer it. Kind machine: resuming the run may."
    return Table("errors", caption, columns, tuple(rows)) if rows else None

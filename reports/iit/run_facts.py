"""The sections of a model's page about the run: what it cost, how it ended, and what is needed to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iit_bench.storage.runs import folder_label
from reports.cells import Column, Table, count, duration, number_cell, text_cell
from reports.entries import Entry, plain
from reports.iit import about
from reports.section import Code, Definitions, Folded, Section, Words, tables
from reports.shared import is_number, name_cell, run_facts


def cost(entry: Entry) -> Section:
    """Tokens, seconds, tokens per second, and what a server billed."""
    header = entry.header
    tokens, seconds = _tokens(header["tokens"]), header["seconds"]
    facts = [
        ("dialogues", count(entry.run.results.n_dialogues)),
        ("tokens processed", count(round(tokens)) if tokens is not None else "not recorded"),
        ("time of scoring", duration(seconds) if is_number(seconds) else "not recorded"),
    ]
    if tokens is not None and is_number(seconds) and seconds > 0:
        facts.append(("tokens per second", count(round(tokens / seconds))))
        facts.append(("seconds per dialogue", f"{seconds / max(1, entry.run.results.n_dialogues):.3g}"))
    where = ", ".join(filter(None, (plain(entry.model.get("device")), plain(entry.model.get("dtype")))))
    facts.append(("on", where or "not recorded"))
    usage = header.get("usage")
    if isinstance(usage, Mapping):
        facts += [(f"server: {key.replace('_', ' ')}", plain(value)) for key, value in usage.items()]
    else:
        facts.append(("server", "none: the model ran in this process, at no price"))
    facts.append(("resumed", f"{plain(header['resumed'])} times"))
    note = (
        "Time and tokens are of the scoring only, over all sessions. Tokens are those that the model read or wrote; a beginning "
        "that was read once counts once."
    )
    return Section("cost", "Cost", (Definitions(tuple(facts)), Words(note, "fine")))


def _tokens(tokens: Any) -> float | None:
    if isinstance(tokens, Mapping):
        tokens = sum(value for value in tokens.values() if is_number(value))
    return tokens if is_number(tokens) else None


def outcomes(entry: Entry) -> Section:
    """Correct, wrong, unparsed, truncated and failed items, by tier and in all; failures by reason."""
    names = list(entry.run.results.outcomes)
    rows = [(text_cell(tier), *(number_cell(result.outcomes.get(name, 0)) for name in names)) for tier, result in entry.tiers.items()]
    rows.append((text_cell("all"), *(number_cell(entry.run.results.outcomes[name]) for name in names)))
    columns = (Column("tier", words=True), *(Column(name) for name in names))
    table = Table("outcomes-by-tier", "Targets by outcome. A tier of which nothing was asked has zeros.", columns, tuple(rows))
    errors = about.errors([(name_cell(entry), entry.run.errors)])
    return Section("outcomes", "Outcomes and errors", (*tables(table, errors), *(() if errors else (Words("No item failed.", "none"),))))


def provenance(entry: Entry) -> Section:
    """What run.json says, and the command that repeats the run."""
    facts = run_facts(entry.header, folder_label(entry.run.path))
    return Section(
        "provenance",
        "How to repeat it",
        (Words("Command:"), Code(str(entry.header["command"])), Folded("All that is recorded of the run", (Definitions(facts),))),
    )

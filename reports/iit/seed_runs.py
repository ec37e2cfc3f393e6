"""What is known of runs that are taken as one model under several seeds: refused where they are two kinds of model, else told apart.

run.json knows the kind of model and how it was asked, not how it was trained; so the page lists the checkpoints and all that differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.iit.comparison import asked_with
from iit_bench.types import tier_order
from reports.cells import Cell, Column, Table, text_cell
from reports.entries import Entry, plain

# Fields of run.json that say nothing of the recipe: of the run itself, or compared by `comparison.incomparable`.
_OF_THE_RUN = frozenset(
    {"format", "version", "name", "command", "arguments", "started", "ended", "seconds", "tokens", "resumed", "usage", "logged", "files"}
)
_OF_THE_RUN |= {"benchmark", "seed", "launch", "merged_replies", "left_out", "tiers", "model", "engine"}
_OF_THE_CHECKPOINT = frozenset({"checkpoint", "checkpoint_sha256"})
_NONE = "not recorded"


def apart(entries: Sequence[Entry]) -> list[str]:
    """In what runs of a table are not one kind of model, each with two values; nothing where they may be seeds of one recipe."""
    first = _kind(entries[0])
    for entry in entries[1:]:
        other = _kind(entry)
        found = [what for what, value in first.items() if other[what] != value and None not in (value, other[what])]
        if found:
            return [f"{what} ({plain(first[what])} and {plain(other[what])})" for what in found]
    return []


def _kind(entry: Entry) -> dict[str, Any]:
    """What all seeds of a recipe have in common; None where it is not recorded."""
    model, details = entry.model, entry.model.get("details") or {}
    weights = model.get("parameters")
    return {
        "architecture": details.get("architecture"),
        "number of weights": weights,
        "name of a model without weights": model.get("name") if weights == 0 else None,
        "takes images": model.get("accepts_images"),
        "blind": model.get("blind"),
        "tiers": sorted(entry.header["tiers"], key=tier_order) if entry.header.get("tiers") else None,
    }


def runs_table(key: str, name: str, entries: Sequence[Entry]) -> Table:
    """A row per run: its checkpoint, its seed, and its values of every other field in which the runs differ."""
    fields = [_fields(entry) for entry in entries]
    differing = [
        what for what in dict.fromkeys(what for one in fields for what in one) if len({one.get(what, _NONE) for one in fields}) > 1
    ]
    rows = tuple(_row(entry, {what: one.get(what, _NONE) for what in differing}) for entry, one in zip(entries, fields, strict=True))
    columns = (
        Column("run", words=True),
        Column("checkpoint", ("its hash",), words=True),
        Column("seed", ("of the run",), words=True),
        Column("differs in", ("beside checkpoint and seed",), words=True),
    )
    caption = (
        f"{name}: what run.json knows of each run. How a checkpoint was trained is not in it: that all are of one recipe is "
        "the word of whoever made this report."
    )
    return Table(key, caption, columns, rows)


def _row(entry: Entry, differing: Mapping[str, str]) -> tuple[Cell, ...]:
    words = [f"{what}: {value}" for what, value in differing.items()] or ["nothing that is recorded"]
    sha256 = str(entry.model.get("checkpoint_sha256") or "")
    return (
        text_cell(entry.name),
        text_cell(str(entry.model.get("checkpoint") or entry.model["name"]), lines=(sha256[:12] or "no hash",)),
        text_cell(str(entry.header.get("seed", _NONE))),
        text_cell(words[0], lines=words[1:]),
    )


def same_weights(entries: Sequence[Entry]) -> str:
    """A sentence on runs of which the weights are the same, so that they are no seeds of training; "" where there are none."""
    by_hash: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.model.get("checkpoint_sha256"):
            by_hash.setdefault(str(entry.model["checkpoint_sha256"]), []).append(entry)
    equal = [mine for mine in by_hash.values() if len(mine) > 1]
    if not equal:
        return ""
    which = "; ".join(", ".join(entry.name for entry in mine) for mine in equal)
    seeds = [len({str(entry.header.get("seed")) for entry in mine}) == len(mine) for mine in equal]
    drawn = "only the seed of the run differs" if all(seeds) else "not even the seeds of the runs differ throughout"
    return f"One checkpoint, no seeds of training: {which}; {drawn}, so what is between them is noise of asking, not of the recipe."


def _fields(entry: Entry) -> dict[str, str]:
    """Every field that may differ between seeds of a recipe, by a name with dots, in words."""
    header = entry.header
    model = {key: value for key, value in entry.model.items() if key not in _OF_THE_CHECKPOINT}
    known = {"model": model, **{key: value for key, value in header.items() if key not in _OF_THE_RUN}}
    return dict(_flat("", known)) | asked_with(header)


def _flat(before: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [found for key, inner in value.items() for found in _flat(f"{before}.{key}" if before else str(key), inner)]
    return [(before, json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, list) else plain(value))]

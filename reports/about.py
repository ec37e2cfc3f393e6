"""What was measured and how it was run: the page's parts that come from run.json and errors.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iit_bench.folders import RUN_FIELDS
from iit_bench.types import Outcome, tier_order
from reports.cells import NOT_AVAILABLE, Cell, Column, Table, count, duration, missing_cell, number_cell, percent, text_cell
from reports.entries import Entry, plain
from reports.sections import name_cell

Facts = tuple[tuple[str, str], ...]  # (term, value), for a definition list

_OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "unparsed", "error")

# Keys of the manifest's baselines, in reading order, and what the page calls them.
_BASELINES = {
    "random": "random (mean 1/k)",
    "majority": "majority",
    "always_first": "always first",
    "choices_only": "choices only",
    "question_prior": "question prior",
}


_SHOWN_ELSEWHERE = ("name", "model", "benchmark", "suite", "command", "arguments")  # of run.json; `arguments` says what `command` says


@dataclass(frozen=True)
class RunCard:
    """One run's section: how to run it again, and what it ran on."""

    head: Cell
    facts: Facts
    command: str


# ---------------------------------------------------------------- the benchmark


def benchmark_facts(entries: Sequence[Entry]) -> Facts:
    header = entries[0].header
    benchmark = header["benchmark"]
    tiers: Mapping[str, Any] = benchmark["tiers"]
    total = sum(n for n in tiers.values() if isinstance(n, int))
    by_tier = "; ".join(f"{tier} {plain(tiers[tier])}" for tier in sorted(tiers, key=tier_order))
    limit = "no limit" if header["limit"] is None else f"limited to {plain(header['limit'])} groups"
    return (
        ("name", f"{plain(benchmark['name'])}, seed {plain(benchmark.get('seed'))}"),
        ("hash of its rows", plain(benchmark["rows_sha256"])),
        ("sources", _sources(benchmark.get("sources"))),
        ("asked and scored", f"{plain(header['scoring'])}, {plain(header['style'])} style, {plain(header['history'])} history, {limit}"),
        ("dialogues per tier", f"{by_tier} ({count(total)} in all)"),
    )


def _sources(value: Any) -> str:
    """Sources stand in the manifest as names or as records; the page gives names and revisions."""
    if isinstance(value, Mapping):
        value = [{"name": name, **(record if isinstance(record, Mapping) else {})} for name, record in value.items()]
    if not isinstance(value, (list, tuple)):
        return plain(value)
    names = []
    for source in value:
        if isinstance(source, Mapping):
            extras = [plain(source[key]) for key in ("revision", "licence", "license") if source.get(key)]
            names.append(plain(source.get("name", "unnamed")) + (f" ({', '.join(extras)})" if extras else ""))
        else:
            names.append(plain(source))
    return ", ".join(names)


def baselines(entries: Sequence[Entry]) -> Table | None:
    """What is reachable without understanding, from the manifest: one line per part of the benchmark, one column per baseline."""
    parts = list(_parts_with_figures(entries[0].header["benchmark"].get("baselines"), ()))
    if not parts:
        return None
    rows = tuple(
        (text_cell(" ".join(path) or "all targets"), number_cell(found.get("n")), *(_baseline_cell(found.get(name)) for name in _BASELINES))
        for path, found in parts
    )
    columns = (Column("targets", words=True), Column("n"), *(Column(words) for words in _BASELINES.values()))
    caption = "Reachable without understanding, accuracy in %. A model must beat these before its score means anything."
    return Table("baselines", caption, columns, rows)


def _parts_with_figures(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The manifest nests figures by part of the benchmark (modality, source); a mapping with `random` is one part's."""
    if not isinstance(value, Mapping):
        return
    if _is_number(value.get("random")):
        yield path, value
    for key, inner in value.items():
        yield from _parts_with_figures(inner, (*path, str(key)))


def _baseline_cell(value: Any) -> Cell:
    return Cell(percent(value), sort=value) if _is_number(value) else missing_cell("could not be fitted for every source")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ---------------------------------------------------------------- the runs


def runs_table(entries: Sequence[Entry]) -> Table:
    """What was run, one line a model; everything else stands in the run's card."""
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
    return Table("runs", "Time and tokens are of the scoring alone, over all sessions.", columns, tuple(map(_run_row, entries)))


def _run_row(entry: Entry) -> tuple[Cell, ...]:
    header, model = entry.header, entry.model
    digest = str(model["checkpoint_sha256"])
    tokens = _total(header["tokens"])
    return (
        name_cell(entry),
        text_cell(plain(model["name"])),
        number_cell(model.get("parameters")),
        text_cell(plain(model.get("dtype"))),
        text_cell(plain(model.get("device"))),
        text_cell(digest[:12] if digest else "no checkpoint"),
        number_cell(header["seconds"], duration(header["seconds"])) if _is_number(header["seconds"]) else text_cell(NOT_AVAILABLE),
        number_cell(tokens),
        number_cell(entry.run.results.n_dialogues),
        number_cell(header["resumed"]) if _is_number(header["resumed"]) else text_cell(plain(header["resumed"])),
    )


def _total(tokens: Any) -> float | None:
    """`tokens` is a number, or a dict of prompt and reply tokens."""
    if isinstance(tokens, Mapping):
        return sum(value for value in tokens.values() if _is_number(value))
    return tokens if _is_number(tokens) else None


def run_cards(entries: Sequence[Entry]) -> tuple[RunCard, ...]:
    return tuple(RunCard(name_cell(entry), _run_facts(entry), str(entry.header["command"])) for entry in entries)


def _run_facts(entry: Entry) -> Facts:
    header, model = entry.header, entry.model
    names = {
        "name": "model",
        "checkpoint": "checkpoint",
        "checkpoint_sha256": "checkpoint sha256",
        "chat_template_sha256": "chat template sha256",
        "system_prompt": "system prompt",
        "accepts_images": "takes images",
        "blind": "images removed (blind)",
        "parameters": "parameters",
        "dtype": "precision",
        "device": "device",
        "max_context": "context, tokens",
        "details": "details",
    }
    facts = [("run folder", entry.run.path.name), ("suite", plain(header["suite"]))]
    facts += [(words, plain(model[key]) or "none") for key, words in names.items() if key in model]
    facts += [(key, plain(header[key])) for key in RUN_FIELDS if key in header and key not in _SHOWN_ELSEWHERE]
    return tuple((words.replace("_", " "), value) for words, value in facts)


# ---------------------------------------------------------------- outcomes and errors


def outcomes(entries: Sequence[Entry]) -> Table:
    """Correct, wrong, unparsed and error, kept apart, per run."""
    rows = []
    for entry in entries:
        found = entry.run.results.outcomes
        names = [*_OUTCOMES, *sorted(set(found) - set(_OUTCOMES))]
        whole = "every item finished" if entry.run.results.complete else "stopped by errors of the machine; it can be resumed"
        rows.append((name_cell(entry), *(number_cell(found.get(name, 0)) for name in names[: len(_OUTCOMES)]), text_cell(whole)))
    columns = (Column("run", words=True), *(Column(name) for name in _OUTCOMES), Column("state", words=True))
    caption = (
        "Outcomes of all scored turns. Unparsed: a reply without a recognisable choice, counted as wrong. Error: never answered; left out "
        "of acc, counted as wrong in the strict figure."
    )
    return Table("outcomes", caption, columns, tuple(rows))


def errors(entries: Sequence[Entry]) -> Table | None:
    """Errors by kind and reason with counts, or None where there is none."""
    rows = []
    for entry in entries:
        reasons = Counter((str(error.get("kind", "")), str(error.get("reason", ""))) for error in entry.run.errors)
        first = {
            (str(error.get("kind", "")), str(error.get("reason", ""))): str(error.get("detail", "")) for error in entry.run.errors[::-1]
        }
        for (kind, reason), n in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            rows.append((name_cell(entry), text_cell(reason), text_cell(kind), number_cell(n), text_cell(first[kind, reason])))
    columns = (
        Column("run", words=True),
        Column("reason", words=True),
        Column("kind", words=True),
        Column("count"),
        Column("first", words=True),
    )
    caption = "Items that failed, by reason. Kind item: this model can never answer it. Kind machine: resuming the run may."
    return Table("errors", caption, columns, tuple(rows)) if rows else None

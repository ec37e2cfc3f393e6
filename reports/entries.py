"""The IIT runs of one page: in groups that may share a table, named, ordered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from evaluators.attention.shift import ObservedModel, observed_model
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import NOT_KNOWN, asked_with, incomparable
from evaluators.runs.marks import UNSEALED
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun, IitRun, folder_label
from iit_bench.types import TierResult, tier_order
from reports import links
from reports.row_order import Block, block_of, iit_rank

# What the page cannot do without; other fields of run.json are shown where they are there.
_NEEDED = ("name", "model", "benchmark", "scoring", "style", "history", "limit", "command", "seconds", "tokens", "resumed")
_NEEDED_OF_BENCHMARK = ("name", "rows_sha256", "tiers")
_NEEDED_OF_MODEL = ("name", "checkpoint_sha256", "blind")


@dataclass(frozen=True)
class Entry:
    """One run as the page knows it."""

    run: IitRun
    name: str  # unique on the page
    style: int  # colour, dash and marker in every figure
    slug: str = "run"  # names its files, unique in the report
    asked_with: tuple[str, ...] = ()  # template, its arguments, date and reasoning budget, where runs of the same table differ in them

    @property
    def header(self) -> Mapping[str, Any]:
        return self.run.run

    @property
    def model(self) -> Mapping[str, Any]:
        return self.run.run["model"]

    @property
    def badges(self) -> tuple[str, ...]:
        marks = {"incomplete": not self.run.results.complete, "blind": bool(self.model["blind"]), UNSEALED: self.run.unsealed}
        marks["stopped when decided"] = (decision := self.run.results.decision) is not None and decision.verdict != "undecided"
        return tuple(mark for mark, holds in marks.items() if holds)

    @property
    def block(self) -> Block:
        return block_of(self.run)

    @cached_property
    def turns(self) -> Turns:
        """The scored turns."""
        return Turns.of_run(self.run)

    @cached_property
    def attention(self) -> ObservedModel | None:
        """What its model attends to; None where that was not observed.

        Raises:
            UserError: the table is damaged, or of another model.
        """
        return observed_model(self.run)

    @property
    def tiers(self) -> dict[str, TierResult]:
        return {result.tier: result for result in self.run.results.tiers}


@dataclass(frozen=True)
class Group:
    """IIT runs that may share a table."""

    entries: tuple[Entry, ...]  # in the order of `row_order.iit_rank`
    key: str = ""  # what ends the ids of its parts of the page; "" for the first group
    apart: tuple[str, ...] = ()  # in what it differs from the first group


def groups_of(unordered: Sequence[IitRun]) -> list[Group]:
    """The IIT runs of a page in groups that may share a table, that of the first run in the order of `row_order.iit_rank` first.

    The order of `unordered` does not matter, so that the same runs give the same page.

    Raises:
        UserError: a run lacks what the page needs.
    """
    runs = [_checked(run) for run in unordered]
    names = unique_names(runs)
    order = sorted(range(len(runs)), key=lambda i: iit_rank(runs[i], names[i]))
    groups: list[list[int]] = []
    for i in order:
        group = next((group for group in groups if not any(incomparable(runs[other].run, runs[i].run) for other in group)), None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    # Styles are numbered in the order of the page's rows: block by block, the runs of a group together.
    rows = sorted((block_of(runs[i]), number) for number, group in enumerate(groups) for i in group)
    placed = [i for block, number in dict.fromkeys(rows) for i in groups[number] if block_of(runs[i]) is block]
    styles = {i: style for style, i in enumerate(placed)}
    files = dict(zip(placed, links.slugs([names[i] for i in placed]), strict=True))
    made = [_asked_with([Entry(runs[i], names[i], styles[i], files[i]) for i in group]) for group in groups]
    return [Group(entries, f"-{number}" if number else "", tuple(_apart(made[0], entries))) for number, entries in enumerate(made)]


def _apart(first: Sequence[Entry], other: Sequence[Entry]) -> list[str]:
    """In what two groups differ; not every pair of their runs need differ in it."""
    return list(dict.fromkeys(what for a in first for b in other for what in incomparable(a.header, b.header)))


def _asked_with(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    values = [asked_with(entry.header) for entry in entries]
    differing = [what for what in values[0] if len({value[what] for value in values} - {NOT_KNOWN}) > 1]
    lines = [tuple(f"{what} {value[what]}" for what in differing) for value in values]
    return tuple(replace(entry, asked_with=mine) for entry, mine in zip(entries, lines, strict=True))


def all_tiers(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Every tier that some run has, from text-only to multimodal-rich."""
    return tuple(sorted({tier for entry in entries for tier in entry.tiers}, key=tier_order))


def _checked(run: IitRun) -> IitRun:
    missing = [name for name in _NEEDED if name not in run.run]
    for part, needed in (("benchmark", _NEEDED_OF_BENCHMARK), ("model", _NEEDED_OF_MODEL)):
        value = run.run.get(part)
        missing += [f"{part}.{name}" for name in needed if not isinstance(value, dict) or name not in value]
    if missing:
        raise UserError(f"'run.json' in run {str(run.path)!r} lacks {', '.join(missing)}; run its `iit-bench eval` again with --fresh")
    return run


def unique_names(runs: Sequence[AnyRun]) -> list[str]:
    """Display names; equal ones get their folder's name, and where that is equal too, the path."""
    own = [str(run.run["name"]) if str(run.run["name"]).strip() else "(no name)" for run in runs]
    names = own
    for label in (lambda run: folder_label(run.path), lambda run: str(run.path)):
        seen = Counter(names)
        names = [f"{mine} ({label(run)})" if seen[name] > 1 else name for run, mine, name in zip(runs, own, names, strict=True)]
    return names


def base_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """The run that its forgetting was measured against, if it is on the page and no other run there has its name."""
    forgotten = entry.run.results.forgetting
    bases = [other for other in entries if forgotten and other is not entry and folder_label(other.run.path) == forgotten.base_run]
    return bases[0] if len(bases) == 1 else None


def baseline(entries: Sequence[Entry], part: str, rule: str) -> float | None:
    """What a rule without understanding reaches on a part of the benchmark, from the manifest.

    Args:
        part: "T", "V", a source, or "source/subject".
        rule: "random", "majority", "always_first", "choices_only", "question_prior".

    Returns:
        A fraction, or None where the manifest has none.
    """
    baselines = entries[0].header["benchmark"].get("baselines")
    figures = baselines.get(part) if isinstance(baselines, Mapping) else None
    value = figures.get(rule) if isinstance(figures, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def plain(value: Any) -> str:
    """A JSON value in words: for what run.json holds and the page only repeats."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value) if isinstance(value, (str, int, float)) else json.dumps(value)

"""How many groups and items a run needs, before it is begun (docs/spec/iit.md#sample-size): from a pilot, or from numbers given by hand."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluators import statistics
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import TEST_NAMES, check_comparable, compare, pair_targets, stopped_early
from evaluators.iit.results import Pairs
from evaluators.runs.marks import unsealed, unsealed_note
from evaluators.runs.reading import load_run
from evaluators.statistics import sample_size
from iit_bench.errors import UserError
from iit_bench.numerals import counted, in_percent, percent
from iit_bench.types import PairedResult, PairedTest

POOL = "T*"  # what forgetting is measured on


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a run is to find. Differences and rates are fractions, 0 … 1.

    Args:
        difference: the smallest differences of two accuracies that matter, one line of the plan each.
        power: probability with which a difference of that size is to be found.
        alpha: significance level of the family, two-sided.
        tests: tests of the family: Holm's first step compares with alpha / tests.
        pilot: folders of two finished runs that are alike to those planned; None where the next three are given.
        over: tier or pool of the pilot, as `iit-bench compare` names them.
        discordance: probability that an item is right in one run only.
        cluster_size: items that depend on each other, e.g. a target under its 3 histories.
        icc: correlation of the differences of two items of a cluster.
    """

    difference: tuple[float, ...]
    power: float = 0.8
    alpha: float = 0.05
    tests: int = 1
    pilot: tuple[Path, Path] | None = None
    over: str = POOL
    discordance: float | None = None
    cluster_size: float = 1.0
    icc: float = 0.0

    def __post_init__(self) -> None:
        if not self.difference:
            raise UserError("there is no difference to plan for; give --difference, e.g. 0.02 for 2 points")
        for name, values in (("difference", self.difference), ("power", (self.power,)), ("alpha", (self.alpha,))):
            for value in values:
                if not 0 < value < 1:
                    raise UserError(f"--{name} {value:g} is no fraction between 0 and 1; write 2 points as 0.02")
        if self.tests < 1:
            raise UserError(f"--tests {self.tests} is too low; give 1 or more")
        if (self.pilot is None) == (self.discordance is None):
            raise UserError(
                "give either --pilot RUN_A RUN_B, two runs like those planned, or --discordance, the share of items that differ"
            )
        if self.pilot is not None and (self.cluster_size != 1 or self.icc != 0):
            raise UserError("--cluster-size and --icc are read from the pilot; leave them out, or leave out --pilot")
        if self.discordance is not None and not 0 < self.discordance <= 1:
            raise UserError(f"--discordance {self.discordance:g} is no fraction above 0; write 10% as 0.1")
        if not 1 <= self.cluster_size < math.inf or not 0 <= self.icc <= 1:
            raise UserError("--cluster-size is 1 or more, and --icc a correlation from 0 to 1")
        if self.icc != 0 and self.cluster_size == 1:
            raise UserError("--icc has no effect without --cluster-size above 1: an item by itself correlates with no other; give both")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What is assumed of the items to come."""

    discordance: float  # probability that an item is right in one run only
    design_effect: float  # items per independent item
    items_per_group: float  # items of one target, over its tiers
    test: PairedTest  # of the pilot; else McNemar's, or the sign-flip where items depend on each other
    degrees_per_item: float | None = None  # degrees of freedom of a t test, per item; None for an exact test
    pilot: PairedResult | None = None
    pilot_groups: int = 0
    early: tuple[str, ...] = ()  # as `comparison.stopped_early` gives it, of the pilot
    unsealed: tuple[str, ...] = ()  # names, as `marks.unsealed` gives them, of the pilot
    benchmark_groups: int = 0  # targets of the pilot's benchmark that the pool may have; 0 = not known


@dataclass(frozen=True, kw_only=True)
class Size:
    """The sample size for one difference; numbers are None where it takes more pairs than are searched for."""

    difference: float
    discordance: float  # as assumed, or as many as the difference itself needs
    effective: int | None  # independent pairs that the test needs
    items: int | None  # paired items
    groups: int | None  # targets, each under all its histories


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sample sizes, and what they rest on."""

    power: float
    alpha: float
    tests: int
    over: str
    basis: Basis
    sizes: tuple[Size, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As `iit-bench plan --json` prints it."""
        return dataclasses.asdict(self)

    def as_table(self) -> str:
        """The plan as text for a terminal."""
        return _table(self)


def plan(options: PlanOptions) -> Plan:
    """The sample size with which the project's own paired test finds each difference.

    The test's power is that of `detectable`, inverted for n instead of the difference; so a pilot's own detectable difference gives the
    pilot's own size.

    Raises:
        UserError: the pilot's runs cannot be read or compared, or share no item of the pool; the difference is larger than the
            discordance can be.
    """
    basis = _of_pilot(options) if options.pilot else _given(options)
    sizes = tuple(_size(difference, basis, options) for difference in options.difference)
    return Plan(power=options.power, alpha=options.alpha, tests=options.tests, over=options.over, basis=basis, sizes=sizes)


def _given(options: PlanOptions) -> Basis:
    assert options.discordance is not None
    effect = sample_size.design_effect(options.cluster_size, options.icc)
    test: PairedTest = "mcnemar exact" if options.cluster_size == 1 else "cluster sign-flip"
    return Basis(discordance=options.discordance, design_effect=effect, items_per_group=options.cluster_size, test=test)


def _of_pilot(options: PlanOptions) -> Basis:
    assert options.pilot is not None
    run_a, run_b = (load_run(path, "iit") for path in options.pilot)
    check_comparable(run_a.run, run_b.run, subset=True)
    a, b = Turns.of_run(run_a), Turns.of_run(run_b)
    results = {result.over: result for result in compare(a, b, str(run_b.run["name"]))}
    over = options.over if options.over in results else options.over.removesuffix("*")  # one tier is no pool
    if over not in results:
        raise UserError(f"the pilot's runs share nothing called {options.over!r}; give --over one of {', '.join(results)}")
    (result,) = statistics.with_holm([results[over]])  # a family of its own, as the plan may have another number of tests
    if not result.difference.n or not result.effective:
        raise UserError(f"the pilot's runs share no finished item of {over!r}; evaluate both on the same tiers")
    if not result.only_a + result.only_b:
        raise UserError("the pilot's runs agree on every item, so it does not show how often two runs differ; give --discordance instead")
    tiers = [tier for tier in pair_targets(a, b) if _member(tier, over)]
    done = Pairs.concat([pairs for tier, pairs in pair_targets(a, b).items() if tier in tiers]).finished()
    groups = len(set(done.a.group.code.tolist()))
    counts = run_a.run["benchmark"].get("tiers") or {}
    return Basis(
        discordance=(result.only_a + result.only_b) / result.difference.n,
        design_effect=result.difference.n / result.effective,
        items_per_group=result.difference.n / groups,
        test=result.test,
        degrees_per_item=None if result.df is None else (result.df + 1) / result.difference.n,
        pilot=result,
        pilot_groups=groups,
        early=stopped_early(run_a, run_b),
        unsealed=tuple(unsealed([run_a, run_b])),
        benchmark_groups=sum(int(counts.get(ending, 0)) for ending in sorted({tier[-1] for tier in tiers})),
    )


def _member(tier: str, over: str) -> bool:
    return tier == over or (over.endswith("*") and tier.endswith(over[:-1]))


def _size(difference: float, basis: Basis, options: PlanOptions) -> Size:
    discordance = max(difference, basis.discordance)
    alpha = options.alpha / options.tests
    effective = sample_size.pairs_for_mcnemar(difference, discordance, alpha, options.power)
    if basis.degrees_per_item is not None and effective is not None:
        per_pair = basis.degrees_per_item * basis.design_effect
        by_t = sample_size.pairs_for_t(difference, discordance, lambda n: per_pair * n - 1, alpha, options.power)
        effective = None if by_t is None else max(effective, by_t)
    items = None if effective is None else math.ceil(effective * basis.design_effect)
    groups = None if items is None else math.ceil(items / basis.items_per_group)
    return Size(difference=difference, discordance=discordance, effective=effective, items=items, groups=groups)


# ---------------------------------------------------------------- for a terminal


def _table(plan: Plan) -> str:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    basis = plan.basis
    title = f"Sample size to find a paired difference with {plan.power:.0%} power, α = {plan.alpha:g}"
    table = Table(box=SIMPLE, title=Text(title + (f" over {plan.tests} tests" if plan.tests > 1 else "")), title_justify="left")
    for heading in ("difference, points", "items that differ", "independent pairs", "items", "groups"):
        table.add_column(heading, justify="right")
    for size in plan.sizes:
        counts = [f"more than {sample_size.MOST:,}" if n is None else f"{n:,}" for n in (size.effective, size.items, size.groups)]
        table.add_row(f"{100 * size.difference:.3g}", in_percent(size.discordance), *counts)
    console = Console(file=io.StringIO(), width=110, color_system=None, force_terminal=False)
    console.print(table)
    for line in _notes(plan, basis):
        console.print(Text(line))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _notes(plan: Plan, basis: Basis) -> Sequence[str]:
    lines = [f"Test: {TEST_NAMES[basis.test]}, two-sided, at α / tests = {plan.alpha / plan.tests:.3g} (Holm's first step)."]
    alone = basis.design_effect == 1
    depend = f"{basis.design_effect:.2f} items count as one independent pair, since items of a cluster depend on each other"
    lines.append(f"{'Each item counts as an independent pair' if alone else depend}; a group has {counted(basis.items_per_group, 'item')}.")
    if raised := [size for size in plan.sizes if size.discordance > basis.discordance]:
        shown = ", ".join(f"{100 * size.difference:.3g}" for size in raised)
        source = "are given" if basis.pilot is None else "do in the pilot"
        lines.append(
            f"For a difference of {shown} points more items are taken to differ than {source} ({in_percent(basis.discordance)}): two runs "
            "that differ by so much differ in that share of the items at least."
        )
    if basis.pilot is not None:
        d = basis.pilot.difference
        detectable = basis.pilot.detectable
        finds = "" if detectable is None else f", which in one test finds {percent(detectable)} points with 80% power"
        lines.append(f"Pilot: {counted(d.n, 'item')} of {counted(basis.pilot_groups, 'group')} ({basis.pilot.over}){finds}.")
        lines += [*basis.early, *filter(None, [unsealed_note(basis.unsealed)])]
    if basis.benchmark_groups:
        has = counted(basis.benchmark_groups, "such group")
        lines.append(f"The pilot's benchmark has {has}; `iit-bench build --size N` builds one with N.")
    return lines

"""Runs that stop as soon as a loss is found or ruled out: `--until decided` (docs/spec/iit.md#decided-runs).

What is asked, and in which batches, is planned before the first answer: clusters in an order hashed by the seed, in blocks. Only where the
run stops depends on answers, so a resumed run computes each block with the same members, and comes to the same decision.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Turns, turns
from evaluators.iit.comparison import Predictions, pair_targets
from evaluators.iit.results import Pairs
from evaluators.iit.turns import Course
from evaluators.runs.checks import check_alone
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.statistics import Floats, Ints
from evaluators.statistics.sequential import ALPHA, Evidence
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.progress import bar, notice
from iit_bench.ranks import this_rank
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import Decision, Figure, Prediction

Asked = tuple[list[Prediction], list[dict[str, Any]]]  # predictions, and lines of errors.jsonl

MOST_SERVED = (
    3.0  # targets per history, as `served` counts them; with more, over 5% of the decisions may be false (benchmarks/decided_runs.py)
)
FIRST_BLOCK = 16  # clusters
GROWTH = 4  # a block is a quarter of what was asked before it, so that little is asked beyond the decision and batches are full


def narrowed(options: RunOptions, benchmark: Benchmark) -> RunOptions:
    """The options of a run until decided, with the tiers that it asks: those that end in T and that the base has answered.

    Raises:
        UserError: several processes, or a base that has answered none of them.
    """
    if options.until is None or options.base is None:
        return options
    check_alone(options.until, this_rank().of)
    answered = load_run(options.base, "iit").run["tiers"]
    wanted = benchmark.chosen_tiers(options.tiers)
    tiers = tuple(tier for tier in wanted if tier.endswith("T") and tier in answered)
    if not tiers:
        raise UserError(f"base {str(options.base)!r} has answered none of the tiers that end in T; evaluate it on such a tier, e.g. T")
    return dataclasses.replace(options, tiers=tiers)


def where_it_stops(options: RunOptions, base: IitRun | None) -> dict[str, Any]:
    """The fields of run.json on where the run may stop; the base is named by its table's hash, since the decision depends on it."""
    if options.until is None or base is None:
        return {"until": None, "groups_asked": None}
    digest = hashlib.sha256((base.path / "predictions.parquet").read_bytes()).hexdigest()
    until = {"margin": options.margin, "alpha": ALPHA, "seed": options.seed, "base_sha256": digest, "blocks": [FIRST_BLOCK, GROWTH]}
    return {"until": until, "groups_asked": None}


@dataclass(frozen=True, eq=False)
class Order:
    """The clusters of a run in the order in which they are asked."""

    courses: tuple[tuple[Course, ...], ...]  # per cluster: targets that share a group or a cluster, under all their histories
    answered: tuple[int, ...]  # per cluster, items that the base has finished

    @classmethod
    def of(cls, courses: Sequence[Course], base: Turns, seed: int) -> Order:
        """By the sha256 of the seed and the first group of each cluster."""
        code = _target_clusters(courses)
        members: dict[int, list[Course]] = {}
        for one, course in zip(code.tolist(), courses, strict=True):
            members.setdefault(one, []).append(course)
        finished = base.take(base.is_target & base.finished).dialogue
        known = {finished.names[i] for i in np.unique(finished.code)}

        def place(cluster: list[Course]) -> str:
            return hashlib.sha256(f"{seed}\n{min(course.dialogue.group for course in cluster)}".encode()).hexdigest()

        ordered = tuple(tuple(cluster) for cluster in sorted(members.values(), key=place))
        return cls(ordered, tuple(sum(course.dialogue.id in known for course in cluster) for cluster in ordered))

    def blocks(self) -> list[tuple[int, int]]:
        """First and last cluster, exclusive, of what is asked between two looks."""
        made, at = [], 0
        while at < len(self.courses):
            end = min(len(self.courses), at + max(FIRST_BLOCK, at // GROWTH))
            made.append((at, end))
            at = end
        return made

    def evidence(self, predictions: Predictions, base: Turns, n_clusters: int, margin: float) -> Evidence:
        """What the first clusters show; items that either side has not finished are left out."""
        place = {course.dialogue.id: i for i, cluster in enumerate(self.courses[:n_clusters]) for course in cluster}
        loss, size = np.zeros(n_clusters), np.zeros(n_clusters)
        pairs = [one for tier, one in pair_targets(base, predictions).items() if tier.endswith("T")]
        if pairs:
            done = Pairs.concat(pairs).finished()
            at = np.array([place[done.a.dialogue.names[i]] for i in done.a.dialogue.code.tolist()], dtype=np.int64)
            loss = np.bincount(at, done.a.acc.astype(np.float64) - done.b.acc, minlength=n_clusters).astype(np.float64)
            size = np.bincount(at, minlength=n_clusters).astype(np.float64)
        return Evidence(loss=loss, size=size, largest=float(max(self.answered, default=0) or 1), margin=margin)


def ask_until_decided(
    ask: Callable[[Sequence[Course], bool], Asked], courses: Sequence[Course], base: IitRun | None, options: RunOptions, progress: bool
) -> tuple[list[Prediction], list[dict[str, Any]], Decision | None]:
    """Ask all courses; or, until decided, block by block, until an e-value is large enough or a machine's error leaves a gap.

    Args:
        ask: asks some of the courses; the second argument is whether it shows a bar of its own.
        courses: of the run.
        base: the run that a loss is measured against.
        options: of the run.
        progress: show progress.
    """
    if options.until is None or base is None:
        return *ask(courses, progress), None
    answers = Turns.of_run(base)
    if why := too_few_histories(courses):
        notice(f"the run is asked whole, not until decided: {why}")
        predictions, errors = ask(courses, progress)
        return predictions, errors, asked_whole(why, options.margin, groups_asked(predictions))
    order = Order.of(courses, answers, options.seed)
    predictions, errors = [], []
    evidence = order.evidence([], answers, 0, options.margin)
    with bar(f"{options.name or options.out.absolute().name}: groups until decided", _n_groups(order.courses), progress) as advance:
        for first, last in order.blocks():
            block = order.courses[first:last]
            more, failed = ask([course for cluster in block for course in cluster], False)
            predictions += more
            errors += failed
            if any(error["kind"] == "machine" for error in failed):
                break  # what is missing may be no fair sample: resuming asks it, and looks then
            advance(_n_groups(block))
            evidence = order.evidence(predictions, answers, last, options.margin)
            if evidence.after is not None:
                break
    in_benchmark = {course.dialogue.id: i for i, course in enumerate(courses)}
    predictions.sort(key=lambda one: (in_benchmark[one.dialogue], one.position))
    errors.sort(key=lambda one: (in_benchmark[one["dialogue"]], one["position"]))
    return predictions, errors, decision(evidence, order, groups_asked(predictions))


def decision(evidence: Evidence, order: Order, asked: int) -> Decision:
    """The record for results.json: the verdict of the first cluster that decided, over the clusters up to it; `asked`: groups."""
    n = len(evidence.size) if evidence.after is None else evidence.after
    upto = evidence.first(n)
    low, high = upto.interval() if n else (None, None)
    items, clusters = int(upto.size.sum()), int(np.sum(upto.size > 0))
    method = "betting confidence sequence"
    loss = Figure(upto.value, low=low, high=high, n=items, clusters=clusters, method=method, note="" if items else "nothing was asked")
    return Decision(
        verdict="undecided" if evidence.after is None else "lost" if evidence.is_lost else "not lost",
        margin=evidence.margin,
        e_lost=float(upto.lost[-1]) if n else 1.0,
        e_not_lost=float(upto.not_lost[-1]) if n else 1.0,
        e_needed=evidence.needed,
        groups=_n_groups(order.courses[:n]),
        of_groups=_n_groups(order.courses),
        loss=loss,
        asked=asked,
    )


def asked_whole(why: str, margin: float, asked: int) -> Decision:
    """The record of a run that was to stop when decided, and was asked whole; `asked`: groups."""
    nothing = Evidence(loss=np.zeros(0), size=np.zeros(0), largest=1.0, margin=margin)
    return Decision(
        verdict="undecided",
        margin=margin,
        e_lost=1.0,
        e_not_lost=1.0,
        e_needed=nothing.needed,
        groups=asked,
        of_groups=asked,
        loss=Figure(None, note=why),
        asked=asked,
        note=why,
    )


def served_per_target(served: Sequence[int]) -> float:
    """Targets that a target's history cluster serves, on average over the targets and their history clusters: 1 = none is shared.

    Args:
        served: targets' clusters that each history cluster serves.
    """
    return sum(n * n for n in served) / sum(served) if served else 1.0


def too_few_histories(courses: Sequence[Course]) -> str:
    """Why answers depend on each other too much for an early decision; "" where they do not (docs/spec/iit.md#decided-runs)."""
    code = _target_clusters(courses)
    pairs = {(question.cluster, one) for one, course in zip(code.tolist(), courses, strict=True) for question in course.questions[:-1]}
    serves = Counter(history for history, _ in pairs)
    shared = served_per_target(list(serves.values()))
    if shared <= MOST_SERVED:
        return ""
    return (
        f"{counted(len(serves), 'history cluster')} serve {counted(len(set(code.tolist())), 'independent target')}, up to "
        f"{max(serves.values())} each, so answers depend on each other too much for an early decision "
        f"(on average, a history cluster of a target serves {shared:.1f} targets; {MOST_SERVED:g} may be)"
    )


def _target_clusters(courses: Sequence[Course]) -> Ints:
    """Codes of the connected components of targets that share a group or a cluster, per course."""
    return statistics.components([c.dialogue.group for c in courses], [c.questions[-1].cluster for c in courses])


def _n_groups(clusters: Sequence[Sequence[Course]]) -> int:
    return len({course.dialogue.group for cluster in clusters for course in cluster})


def groups_asked(predictions: Predictions) -> int:
    """Targets that a run has predictions of."""
    return len(set(turns(predictions).group.code.tolist()))


def cluster_sums(base: IitRun, run: IitRun) -> tuple[Floats, Floats]:
    """Of two finished runs: per cluster of text targets, the sum of base minus run, and the items, [G]."""
    pairs = [one for tier, one in pair_targets(Turns.of_run(base), Turns.of_run(run)).items() if tier.endswith("T")]
    done = Pairs.concat(pairs).finished()
    code = statistics.components(done.a.group.code, done.a.cluster.code)
    return np.bincount(code, done.a.acc.astype(np.float64) - done.b.acc).astype(np.float64), np.bincount(code).astype(np.float64)

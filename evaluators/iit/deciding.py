"""Runs that stop as soon as a loss is found or ruled out: `--until decided` (docs/spec/iit.md#decided-runs).

What is asked, and in which batches, is planned before the first answer: clusters in an order hashed by the seed, in blocks. Only where the
run stops depends on answers, so a resumed run computes each block with the same members, and comes to the same decision.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Turns, turns
from evaluators.iit.comparison import Predictions, pair_targets
from evaluators.iit.decision import FIRST_BLOCK, GROWTH, Order, Target, asked_whole, decision, n_groups
from evaluators.iit.results import Pairs
from evaluators.iit.turns import Course
from evaluators.runs.checks import check_alone
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.statistics import Floats, Ints
from evaluators.statistics.sequential import ALPHA
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.progress import bar, notice
from iit_bench.ranks import this_rank
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import Decision, Prediction

Asked = tuple[list[Prediction], list[dict[str, Any]]]  # predictions, and lines of errors.jsonl

MOST_SERVED = (
    3.0  # targets per history, as `served` counts them; with more, over 5% of the decisions may be false (benchmarks/decided_runs.py)
)


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
    by_id = {course.dialogue.id: course for course in courses}
    targets = [Target(one.dialogue.id, one.dialogue.group, one.questions[-1].cluster) for one in courses]
    order = Order.of(targets, answers, options.seed)
    predictions, errors = [], []
    evidence = order.evidence([], answers, 0, options.margin)
    with bar(f"{options.name or options.out.absolute().name}: groups until decided", n_groups(order.targets), progress) as advance:
        for first, last in order.blocks():
            block = order.targets[first:last]
            more, failed = ask([by_id[target.dialogue] for cluster in block for target in cluster], False)
            predictions += more
            errors += failed
            if any(error["kind"] == "machine" for error in failed):
                break  # what is missing may be no fair sample: resuming asks it, and looks then
            advance(n_groups(block))
            evidence = order.evidence(predictions, answers, last, options.margin)
            if evidence.after is not None:
                break
    in_benchmark = {course.dialogue.id: i for i, course in enumerate(courses)}
    predictions.sort(key=lambda one: (in_benchmark[one.dialogue], one.position))
    errors.sort(key=lambda one: (in_benchmark[one["dialogue"]], one["position"]))
    return predictions, errors, decision(evidence, order, groups_asked(predictions))


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


def groups_asked(predictions: Predictions) -> int:
    """Targets that a run has predictions of."""
    return len(set(turns(predictions).group.code.tolist()))


def cluster_sums(base: IitRun, run: IitRun) -> tuple[Floats, Floats]:
    """Of two finished runs: per cluster of text targets, the sum of base minus run, and the items, [G]."""
    pairs = [one for tier, one in pair_targets(Turns.of_run(base), Turns.of_run(run)).items() if tier.endswith("T")]
    done = Pairs.concat(pairs).finished()
    code = statistics.components(done.a.group.code, done.a.cluster.code)
    return np.bincount(code, done.a.acc.astype(np.float64) - done.b.acc).astype(np.float64), np.bincount(code).astype(np.float64)

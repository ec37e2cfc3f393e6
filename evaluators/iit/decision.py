"""How a run until decided asks its clusters, what they show, and the record of its decision (docs/spec/iit.md#decided-runs)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import Predictions, pair_targets
from evaluators.iit.results import Pairs
from evaluators.statistics.sequential import Evidence
from iit_bench.types import Decision, Figure

FIRST_BLOCK = 16  # clusters
GROWTH = 4  # a block is a quarter of what was asked before it, so that little is asked beyond the decision and batches are full


@dataclass(frozen=True)
class Target:
    """What the order of a run needs to know of a dialogue."""

    dialogue: str  # Dialogue.id
    group: str
    cluster: str


@dataclass(frozen=True, eq=False)
class Order:
    """The clusters of a run in the order in which they are asked."""

    targets: tuple[tuple[Target, ...], ...]  # per cluster: targets that share a group or a cluster, under all their histories
    answered: tuple[int, ...]  # per cluster, items that the base has finished

    @classmethod
    def of(cls, targets: Sequence[Target], base: Turns, seed: int) -> Order:
        """By the sha256 of the seed and the first group of each cluster."""
        code = statistics.components([one.group for one in targets], [one.cluster for one in targets])
        members: dict[int, list[Target]] = {}
        for one, target in zip(code.tolist(), targets, strict=True):
            members.setdefault(one, []).append(target)
        finished = base.take(base.is_target & base.finished).dialogue
        known = {finished.names[i] for i in np.unique(finished.code)}

        def place(cluster: list[Target]) -> str:
            return hashlib.sha256(f"{seed}\n{min(target.group for target in cluster)}".encode()).hexdigest()

        ordered = tuple(tuple(cluster) for cluster in sorted(members.values(), key=place))
        return cls(ordered, tuple(sum(target.dialogue in known for target in cluster) for cluster in ordered))

    def blocks(self) -> list[tuple[int, int]]:
        """First and last cluster, exclusive, of what is asked between two looks."""
        made, at = [], 0
        while at < len(self.targets):
            end = min(len(self.targets), at + max(FIRST_BLOCK, at // GROWTH))
            made.append((at, end))
            at = end
        return made

    def evidence(self, predictions: Predictions, base: Turns, n_clusters: int, margin: float) -> Evidence:
        """What the first clusters show; items that either side has not finished are left out."""
        place = {target.dialogue: i for i, cluster in enumerate(self.targets[:n_clusters]) for target in cluster}
        loss, size = np.zeros(n_clusters), np.zeros(n_clusters)
        pairs = [one for tier, one in pair_targets(base, predictions).items() if tier.endswith("T")]
        if pairs:
            done = Pairs.concat(pairs).finished()
            at = np.array([place[done.a.dialogue.names[i]] for i in done.a.dialogue.code.tolist()], dtype=np.int64)
            loss = np.bincount(at, done.a.acc.astype(np.float64) - done.b.acc, minlength=n_clusters).astype(np.float64)
            size = np.bincount(at, minlength=n_clusters).astype(np.float64)
        return Evidence(loss=loss, size=size, largest=float(max(self.answered, default=0) or 1), margin=margin)


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
        groups=n_groups(order.targets[:n]),
        of_groups=n_groups(order.targets),
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


def n_groups(clusters: Sequence[Sequence[Target]]) -> int:
    """How many groups the targets of clusters have."""
    return len({target.group for cluster in clusters for target in cluster})

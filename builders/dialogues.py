"""The dialogues of a benchmark, made from the groups of its targets each time they are gone through.

A group holds a question per node of its trie; its dialogues, of which there are several times as many as questions, are not kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from builders.histories import MODALITIES, Group, trie
from iit_bench.types import Dialogue, Modality, Question, visual_share

Connect = Callable[[Question, Question], str]  # (previous turn, turn to introduce) -> sentence


@dataclass(frozen=True)
class Dialogues:
    """One dialogue per group and tier that ends in its target's modality: group after group, in the order of the tiers.

    Args:
        connect: makes the sentence between two turns; None = no sentences.
    """

    groups: Sequence[Group]
    tiers: tuple[str, ...]
    connect: Connect | None = None

    def __iter__(self) -> Iterator[Dialogue]:
        paths = {modality: self._paths(modality) for modality in MODALITIES}
        for group in self.groups:
            for tier, path in paths[group.target.modality]:
                yield self._dialogue(tier, (*(group.nodes[node] for node in path), group.target))

    def of_tiers(self) -> dict[str, int]:
        """Tier -> its number of dialogues."""
        targets = {modality: sum(group.target.modality == modality for group in self.groups) for modality in MODALITIES}
        return {tier: targets["T" if tier.endswith("T") else "V"] for tier in self.tiers}

    def history(self) -> Iterator[tuple[str, list[Iterator[Question]]]]:
        """Each tier that has a history and dialogues, with the questions at each of its turns before the target."""
        for modality in MODALITIES:
            if any(group.target.modality == modality for group in self.groups):
                for tier, path in self._paths(modality):
                    if path:
                        yield tier, [_at(self.groups, modality, node) for node in path]

    def _paths(self, modality: Modality) -> list[tuple[str, list[int]]]:
        """The tiers that end in a modality, with the positions in `Group.nodes` of their turns before the target."""
        position = {node: i for i, node in enumerate(trie(self.tiers, modality))}
        return [(tier, [position[tier[: i + 1]] for i in range(len(tier) - 1)]) for tier in self.tiers if tier.endswith(modality)]

    def _dialogue(self, tier: str, turns: tuple[Question, ...]) -> Dialogue:
        target = turns[-1]
        dialogue = Dialogue(
            id=f"{tier}:{target.id}",
            tier=tier,
            visual_share=visual_share(tier),
            group=target.id,
            turns=tuple(turn.id for turn in turns),
            target=target.id,
        )
        if self.connect is None:
            return dialogue
        sentences = (self.connect(before, after) for before, after in pairwise(turns))
        return replace(dialogue, connectors=("", *sentences))


def _at(groups: Sequence[Group], modality: Modality, node: int) -> Iterator[Question]:
    return (group.nodes[node] for group in groups if group.target.modality == modality)

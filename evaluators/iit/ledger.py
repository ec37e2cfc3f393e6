"""The forgetting ledger: which items a run lost, kept, gained or never had against its base (docs/spec/iit.md#ledger)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit import comparison
from evaluators.iit.columns import Bools, Names, Turns
from evaluators.iit.results import Pairs
from evaluators.statistics import Ints
from iit_bench.server_options import SERVER
from iit_bench.types import OUTCOMES, TRANSITIONS, Figure, Ledger, LedgerPart, LostItem, Modality, PartOfLedger, tier_order

__all__ = ["TRANSITIONS", "are_repeats", "ledger", "noise_floor", "tally", "transition_codes", "transitions"]

LOST, KEPT, GAINED, NEVER = range(4)  # places in TRANSITIONS
_CHOSEN = tuple(OUTCOMES.index(outcome) for outcome in ("correct", "wrong"))  # outcomes of answers that may be guesses


def transitions(run: Turns, base: Turns) -> dict[tuple[str, int], str]:
    """What became of every turn that both sides finished, history turns that were scored included.

    Returns:
        (dialogue id, position) -> one of `TRANSITIONS`.

    Raises:
        UserError: a turn of the two runs does not ask the same question with the same choices.
    """
    pairs = comparison.pair_turns(base, run).finished()
    names, dialogue, position = pairs.a.dialogue.names, pairs.a.dialogue.code.tolist(), pairs.a.position.tolist()
    return {(names[d], p): TRANSITIONS[c] for d, p, c in zip(dialogue, position, transition_codes(pairs).tolist(), strict=True)}


def ledger(run: Turns, base: Turns, modality: Modality = "T") -> Ledger | None:
    """The ledger of the targets of one modality in the tiers that both ran; None where both ran no tier that ends so.

    Args:
        run, base: of two runs that passed `check_comparable`.
        modality: of the targets.

    Raises:
        UserError: a turn of the two runs does not ask the same question with the same choices.
    """
    every = comparison.pair_turns(base, run)
    turns = _taken(every, _is_of(every.a, modality)).finished()
    targets = _taken(turns, turns.a.is_target)
    if not len(_taken(every, _is_of(every.a, modality) & every.a.is_target).a):
        return None
    return Ledger(modality=modality, parts=tuple(_parts(turns, targets, f"{modality}*")), lost=_lost_items(targets))


def tally(run: Turns, base: Turns, modality: Modality = "T") -> dict[str, int]:
    """Transition -> targets of the modality that both sides finished.

    Raises:
        UserError: a turn of the two runs does not ask the same question with the same choices.
    """
    pairs = comparison.pair_turns(base, run).finished()
    codes = transition_codes(_taken(pairs, _is_of(pairs.a, modality) & pairs.a.is_target))
    return {name: int(np.sum(codes == code)) for code, name in enumerate(TRANSITIONS)}


def _is_of(turns: Turns, modality: Modality) -> Bools:
    """Whether the question of a turn is of the modality, [n]."""
    longest = max((len(tier) for tier in turns.tier.names), default=0)
    letters = np.array([[letter == modality for letter in tier.ljust(longest)] for tier in turns.tier.names], dtype=np.bool_)
    return letters.reshape(-1, longest)[turns.tier.code, turns.position] if len(turns) else turns.is_target


def _taken(pairs: Pairs, rows: Bools | Ints) -> Pairs:
    return Pairs(pairs.a.take(rows), pairs.b.take(rows))


# ---------------------------------------------------------------- parts


def _parts(turns: Pairs, targets: Pairs, pool: str) -> Iterator[LedgerPart]:
    """The pool of targets, then what it is made of; under own history every turn by its position."""
    a = targets.a
    yield _part("all", pool, targets)
    for tier, rows in sorted(a.by_tier().items(), key=lambda item: tier_order(item[0])):
        yield _part("tier", tier, _taken(targets, rows))
    for (source,), rows in sorted(a.by(a.source).items()):
        yield _part("source", source, _taken(targets, rows))
    for (source, subject), rows in sorted(a.by(a.source, a.subject).items()):
        yield _part("subject", f"{source}/{subject}", _taken(targets, rows))
    if not turns.a.is_target.all():
        for position in np.unique(turns.a.position).tolist():
            yield _part("turn", str(position), _taken(turns, turns.a.position == position))
    kinds = [_kind_of_history(tier) for tier in a.tier.names]
    for kind in ("none", "text only", "with image"):
        of_kind = np.array([one == kind for one in kinds], dtype=np.bool_)
        if len(a) and len(rows := np.flatnonzero(of_kind[a.tier.code])):
            yield _part("history", kind, _taken(targets, rows))


def _kind_of_history(tier: str) -> str:
    return "none" if len(tier) == 1 else "with image" if "V" in tier[:-1] else "text only"


def _part(by: PartOfLedger, part: str, pairs: Pairs) -> LedgerPart:
    codes, dependence, chance = transition_codes(pairs), pairs.dependence(), pairs.a.chance
    base, run = (statistics.known(side.acc, np.isin(side.outcome, _CHOSEN), chance) for side in (pairs.a, pairs.b))
    return LedgerPart(
        by=by,
        part=part,
        counts={name: int(np.sum(codes == code)) for code, name in enumerate(TRANSITIONS)},
        rates={name: statistics.rate(codes == code, dependence) for code, name in enumerate(TRANSITIONS)},
        corrected=statistics.corrected_rates(base, run, chance, dependence),
    )


def transition_codes(pairs: Pairs) -> Ints:
    """The index in `TRANSITIONS` of each pair (base, run), both finished, [n]."""
    base, run = pairs.a.acc, pairs.b.acc
    return np.where(base, np.where(run, KEPT, LOST), np.where(run, GAINED, NEVER)).astype(np.int64)


def _lost_items(targets: Pairs) -> tuple[LostItem, ...]:
    """The targets that are lost in some tier: by the number of tiers, then by the share of tiers, then by name."""
    a, lost = targets.a, transition_codes(targets) == LOST
    items = []
    for (source, subject, question), rows in a.by(a.source, a.subject, a.question).items():
        if len(mine := rows[lost[rows]]):
            named = sorted(((_word(a.tier, row), _word(a.dialogue, row)) for row in mine.tolist()), key=lambda one: tier_order(one[0]))
            dialogues = tuple(dialogue for _, dialogue in named)
            items.append(LostItem(question=question, source=source, subject=subject, dialogues=dialogues, n=len(rows)))
    return tuple(sorted(items, key=lambda one: (-len(one.dialogues), one.n, one.source, one.subject, one.question)))


def _word(names: Names, row: int) -> str:
    return names.names[names.code[row]]


# ---------------------------------------------------------------- repeats


def are_repeats(run_a: Mapping[str, Any], run_b: Mapping[str, Any]) -> bool:
    """Whether two runs ask one model the same in the same way, so that what differs between them is noise.

    Args:
        run_a, run_b: contents of run.json. Seed, order of requests and machine may differ. Weights are the same by their hash; a server's
            by the name of the model and the server's address.
    """
    models = [run["model"] for run in (run_a, run_b)]
    same: tuple[str, ...] = ("checkpoint_sha256", "chat_template_sha256", "blind", "accepts_images", "dtype", "settings")
    if not models[0]["checkpoint_sha256"]:
        same += ("name", "checkpoint")
    known = bool(models[0]["checkpoint_sha256"] or models[0].get("device") == SERVER)
    alike = all(models[0].get(name) == models[1].get(name) for name in same)
    return known and alike and not comparison.incomparable(run_a, run_b) and not comparison.asked_apart(run_a, run_b)


def noise_floor(repeats: Sequence[Turns], modality: Modality | None = "T") -> Figure:
    """The share of targets that only one of two repeats has right: per item the share of pairs of repeats, then the mean over items.

    Args:
        repeats: two or more runs of which `are_repeats` is true. Items that one of them did not finish are left out.
        modality: of the targets; None for all.

    Raises:
        UserError: the repeats do not ask the same questions.
    """
    first = repeats[0]
    right: list[Bools] = []
    for _ in range(2):  # first which items all have finished, then their answers
        right = []
        for other in repeats[1:]:
            pairs = comparison.pair_turns(first, other).finished()
            wanted = pairs.a.is_target if modality is None else pairs.a.is_target & _is_of(pairs.a, modality)
            pairs = _taken(pairs, wanted)
            first = pairs.a
            right.append(pairs.b.acc)
    if not len(first):
        return Figure(None, note="no item finished in all repeats")
    n, hits = len(repeats), np.sum([first.acc, *right], axis=0)
    dependence = Pairs(first, first).dependence()
    return statistics.mean(2 * hits * (n - hits) / (n * (n - 1)), dependence)

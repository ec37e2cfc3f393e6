"""What a page says first: one sentence with the number in it."""

from __future__ import annotations

from collections.abc import Sequence

from iit_bench.types import Figure, Forgetting
from reports.cells import count, in_percent, interval, percent
from reports.entries import Entry, Group
from reports.iit.decision import lost_of, sentence
from reports.shared import SCORES

_NAMED = 4  # models whose loss the leaderboard's sentence gives


def of_groups(groups: Sequence[Group]) -> tuple[str, ...]:
    """What the models of all groups forgot; where none has a base, who has the highest score of the first group."""
    forgotten = tuple(words for group in groups for words in _forgotten(group.entries))
    return forgotten or (_highest(groups[0].entries) if groups else ())


def first(groups: Sequence[Group]) -> tuple[Entry, Group] | None:
    """The model that the first sentence is about, where it has a base."""
    for group in groups:
        if told := _told(group.entries):
            return told[0][0], group
    return None


def _told(entries: Sequence[Entry]) -> list[tuple[Entry, Forgetting]]:
    """The models with a base and what they lost, the largest loss first."""
    told = [(entry, lost) for entry in entries if (lost := _lost(entry)) is not None and not entry.model["blind"]]
    return sorted(told, key=lambda one: (-_value(one[1]), one[0].name))


def _forgotten(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A sentence per base; none where no model has one."""
    told = _told(entries)
    sentences = []
    for base in dict.fromkeys(lost.base for _, lost in told):
        mine = [(entry, lost) for entry, lost in told if lost.base == base]
        clauses = [_clause(entry, lost, whole=rank == 0) for rank, (entry, lost) in enumerate(mine[:_NAMED])]
        rest = mine[_NAMED:]
        if rest:
            values = [_value(lost) for _, lost in rest]
            clauses.append(f"{len(rest)} more lost {percent(min(values))} to {percent(max(values))}")
        sentences.append(f"{'; '.join(clauses)}.")
    return tuple(sentences)


def of_model(entry: Entry) -> str:
    """What the model forgot against its base, or the verdict of a run until decided; else its first score."""
    if verdict := sentence(entry.run.results):
        return verdict
    lost = _lost(entry)
    if lost is not None:
        about = f"{count(lost.pooled.difference.n)} text targets of the tiers {', '.join(lost.tiers)}"
        return f"{_clause(entry, lost, whole=True)}; over {about}."
    for score in SCORES:
        figure = score.of(entry)
        if figure.value is not None:
            reason = "it has no base LLM's run to be compared with" if entry.run.results.forgetting is None else "its base is not known"
            return f"{entry.name} has {in_percent(figure.value)} right ({score.name}, {score.small}; {interval(figure)}); {reason}."
    return f"{entry.name} has no score over all tiers."


def _lost(entry: Entry) -> Forgetting | None:
    lost = lost_of(entry.run.results)
    return lost if lost is not None and lost.pooled.difference.value is not None else None


def _value(lost: Forgetting) -> float:
    return lost.pooled.difference.value or 0.0


def _clause(entry: Entry, lost: Forgetting, whole: bool) -> str:
    """`whole`: with the words that the sentence's later clauses leave out."""
    difference = lost.pooled.difference
    verb, value = changed(difference)
    if not whole:
        return f"{entry.name} {verb} {value} ({interval_of_change(difference)})"
    what = f"of what its base, {lost.base}, knew of text questions" if verb == "lost" else f"over its base, {lost.base}, on text questions"
    return f"{entry.name} {verb} {value} percentage points {what} (95% interval {interval_of_change(difference)})"


def changed(difference: Figure) -> tuple[str, str]:
    """("lost", "9.3") for a difference base − model, ("gained", "1.0") for a negative one."""
    value = difference.value or 0.0
    return ("gained" if value < 0 and percent(value) != "0.0" else "lost"), percent(abs(value))


def interval_of_change(difference: Figure) -> str:
    """The interval of a loss in the sense of its verb: where it includes 0, so that it may be no loss, that is said."""
    if difference.low is None or difference.high is None:
        return "no interval"
    flip = -1 if changed(difference)[0] == "gained" else 1
    low, high = sorted((flip * difference.low, flip * difference.high))
    words = f"{percent(low)} to {percent(high)}"
    return f"{words}: perhaps nothing" if low <= 0 <= high else words


def _highest(entries: Sequence[Entry]) -> tuple[str, ...]:
    for score in SCORES:
        known = [(figure.value, entry, figure) for entry in entries if (figure := score.of(entry)).value is not None]
        if known:
            _, entry, figure = max(known, key=lambda one: (one[0] or 0.0, [-ord(character) for character in one[1].name]))
            reason = "No run has a base LLM's run beside it, so what was forgotten is not known."
            best = f"{entry.name} has the highest {score.name if score.name.endswith('score') else score.name + ' score'}"
            return (f"{best}: {in_percent(figure.value or 0.0)} right ({interval(figure)}).", reason)
    return ("No run has a score over all tiers, nor a known loss against a base LLM's run.",)

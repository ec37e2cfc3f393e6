"""An explanation for a terminal, and for machines."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from evaluators.explain.explanation import Part, Split, not_recorded
from evaluators.explain.settings import Standing
from evaluators.explain.sides import Cause
from evaluators.explain.split import INTERACTION, REST, TOGETHER
from evaluators.runs.marks import UNSEALED, unsealed_note
from iit_bench.numerals import counted, in_percent, interval, points
from iit_bench.visible import visible

LABELS = {
    "items": "items missing",
    "prompt": "prompt",
    "template": "template",
    "extraction": "extraction rule",
    "truncation": "truncation",
    "decoding": "decoding",
    "weights": "weights",
    "dtype": "dtype",
    INTERACTION: "interaction",
    TOGETHER: "not told apart",
    REST: "not explained",
}
_FURTHER = 6  # settings of a cause that are named


def as_text(found: Split) -> str:
    """A line per part, then what is not recorded and how to find out more."""
    first, last = found.sides[0], found.sides[-1]
    lines = [f"A = {_side(first.name, first.tool)}, B = {_side(last.name, last.tool)}"]
    lines += [f"by way of {', '.join(_side(side.name, side.tool) for side in found.sides[1:-1])}"] if len(found.sides) > 2 else []
    a, b = found.scores
    over = f"{visible(found.tasks[0])}" if len(found.tasks) == 1 else f"mean of {len(found.tasks)} tasks"
    gap = " ".join(filter(None, (points(found.gap.value), "points", interval(found.gap))))
    lines += [f"{over}: A {in_percent(a)} - B {in_percent(b)} = {gap}", _items(found), ""]
    rows = [(LABELS[part.name], points(part.size.value), interval(part.size), _why(found, part)) for part in found.parts]
    rows.append(("sum", points(sum(part.size.value or 0.0 for part in found.parts)), "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines += [f"  {label:<{widths[0]}}  {size:>{widths[1]}}  {bounds:<{widths[2]}}  {why}".rstrip() for label, size, bounds, why in rows]
    for more in (list(_notes(found)), list(_by_task(found)) if len(found.tasks) > 1 else []):
        lines += ["", *more] if more else []
    return "\n".join(lines).rstrip() + "\n"


def _side(name: str, tool: str) -> str:
    return " ".join(visible(f"{name} ({tool})").split())


def _items(found: Split) -> str:
    both = sum(len(one.items) for one in found.steps[0])
    other = sum(one.other for step in found.steps for one in step)
    ends = (sum(one.only_a - one.other for one in found.steps[0]), sum(one.only_b - one.other for one in found.steps[-1]))
    words = f"{counted(both, 'item')} of both, {ends[0]:,} only of A, {ends[1]:,} only of B"
    return words + (f", {other:,} of one name that ask something else" if other else "")


def _why(found: Split, part: Part) -> str:
    """What is behind a part, in words."""
    counts = f"A up on {part.raised:,}, down on {part.lowered:,}" if part.raised or part.lowered else ""
    if part.name == "extraction":
        return _joined(_rules(found), counts)
    if part.name == "truncation":
        return _joined(_limits(found), counts)
    if part.name in (TOGETHER, REST):
        return _joined("; ".join(_together(found, part.name)), counts)
    if part.name in ("items", INTERACTION):
        return counts
    return _joined(_in_words(found.standing(part.name)), counts)  # type: ignore[arg-type]


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _in_words(standings: list[Standing]) -> str:
    different = list(dict.fromkeys(words for one in standings for words in one.different))
    unknown = list(dict.fromkeys(words for one in standings for words in one.unknown))
    if all(one.state == "stated equal" for one in standings):
        return "equal, as stated"
    if different:
        return visible(", ".join(different[:_FURTHER]) + (", …" if len(different) > _FURTHER else ""))
    return f"not recorded: {', '.join(unknown)}" if unknown else "equal"


def _rules(found: Split) -> str:
    splits = [one for step in found.steps for one in step]
    if all(one.a.rule == one.b.rule for one in splits):
        return "one rule"
    unread = sum(one.unread for one in splits)
    return f"two rules; of {unread:,} items rule and reply are not told apart" if unread else "two rules, each read on both sides' replies"


def _limits(found: Split) -> str:
    ends = [
        {answer.limit for one in side for answer in task(one).answers.values() if answer.reply is not None}
        for side, task in ((found.steps[0], lambda one: one.a), (found.steps[-1], lambda one: one.b))
    ]
    if not any(ends):
        return "no replies are generated"
    words = list(dict.fromkeys(map(_limit, ends)))
    return " there, ".join(words) + (" here" if len(words) > 1 else "")


def _limit(limits: Collection[int | None]) -> str:
    """The limit of one side's replies, in words."""
    if not limits:
        return "no reply is generated"
    return "a limit that is not recorded" if None in limits else f"at most {' or '.join(map(str, sorted(limits)))} tokens"  # type: ignore[type-var]


def _together(found: Split, name: str) -> Iterator[str]:
    """The sets of causes that are possible, with the number of items of each."""
    sets: Counter[tuple[Cause, ...]] = Counter()
    for step in found.steps:
        for one in step:
            sets.update(one.causes[item] for item, value in zip(one.items, one.parts[name], strict=True) if value and item in one.causes)
    for causes, n in sorted(sets.items(), key=lambda pair: (-pair[1], pair[0])):
        possible = " or ".join(LABELS[cause] for cause in causes) or "every recorded setting is equal"
        yield f"{possible}: {n:,} item{'' if n == 1 else 's'}"


def _notes(found: Split) -> Iterator[str]:
    unknown = not_recorded(found)
    by_name = {part.name: part.size.value for part in found.parts}
    if unknown and (by_name[TOGETHER] or by_name[REST]):
        words = "; ".join(f"{LABELS[cause]} ({', '.join(names)})" for cause, names in unknown.items())
        yield f"Not recorded: {words}. What you know to be equal, state with --same {','.join(unknown)}."
    if by_name[TOGETHER]:
        yield "To tell more apart, run one model once more with one thing changed, and name that result between A and B."
    for task, why in sorted(found.left_out.items()):
        yield f"Left out: {visible(task)}: {visible(why)}."
    if note := unsealed_note([side.name for side in found.sides if side.unsealed]):
        yield visible(note)


def _by_task(found: Split) -> Iterator[str]:
    """One line per task: its gap, and its parts that are not 0."""
    for place, name in enumerate(found.tasks):
        parts = {part.name: sum(step[place].part(part.name) for step in found.steps) for part in found.parts}
        gap = sum(step[place].gap for step in found.steps)
        words = ", ".join(f"{LABELS[part]} {points(value)}" for part, value in parts.items() if abs(value) > 1e-9)
        yield f"  {visible(name)}: {points(gap)}{' = ' + words if words else ''}"


def as_dict(found: Split) -> dict[str, Any]:
    """For `--json`; scores and parts in the unit of the score, fractions for accuracies."""
    return {
        "results": [{"name": side.name, "tool": side.tool, "place": side.place, UNSEALED: side.unsealed} for side in found.sides],
        "tasks": list(found.tasks),
        "scores": list(found.scores),
        "gap": dataclasses.asdict(found.gap),
        "parts": {part.name: {"words": _why(found, part)} | dataclasses.asdict(part) for part in found.parts},
        "by_task": {
            name: {part.name: sum(step[place].part(part.name) for step in found.steps) for part in found.parts}
            for place, name in enumerate(found.tasks)
        },
        "not_recorded": dict(not_recorded(found)),
        "possible": [
            {"task": one.a.name, "item": item, "causes": list(causes)}
            for step in found.steps
            for one in step
            for item, causes in one.causes.items()
        ],
        "left_out": dict(found.left_out),
    }

"""Answers as lines of text. What models and data sets wrote never reaches the terminal as control characters (`iit_bench.visible`)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from evaluators.show.records import Answered, Asked, Shown
from iit_bench.visible import clipped, visible

CLIP = 600  # characters of a text before it is cut
_WIDTH = 118
_GOLD, _CHOSEN = "gold", "chosen"


def safe(text: str) -> str:
    """A short text on one line."""
    return " ".join(visible(text).split())


def shown(n: int, of: int) -> str:
    """What follows the count of matching items where not all are printed."""
    return f", the first {n:,} of them:" if n < of else ":"


def page(head: str, note: str, items: Sequence[Shown], most: int) -> str:
    """The head, and the items one after the other."""
    parts = [head, *([note] if note else [])]
    return "\n".join(parts) + "\n" + "".join("\n" + "\n".join(lines(item, most)) + "\n" for item in items)


def counted(a: str, b: str, counts: Mapping[tuple[str, str], int], sizes: tuple[int, int, int]) -> str:
    """How the outcomes of two runs go together: one line per pair of outcomes, the most frequent first."""
    both, only_a, only_b = sizes
    head = f"A = {safe(a)}, B = {safe(b)}: {both:,} items of both"
    if only_a or only_b:
        head += f", {only_a:,} only of A, {only_b:,} only of B"
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return "\n".join([head, *(f"  {n:>8,}  {f'both {x}' if x == y else f'A {x}, B {y}'}" for (x, y), n in rows)])


def lines(item: Shown, most: int) -> Iterator[str]:
    """One item."""
    asked = item.asked
    what = [f"tier {asked.tier}"] if asked.tier else []
    what += [" / ".join(part for part in (asked.source, asked.subject) if part)]
    outcomes = (
        ", ".join(f"{'AB'[i]} {one.outcome}" for i, one in enumerate(item.answers)) if len(item.answers) > 1 else item.answers[0].outcome
    )
    yield safe(" · ".join([asked.id, *what, outcomes]))
    yield from _turns(asked, item.answers, most)
    yield from _choices(asked, item.answers, most)
    for place, answer in enumerate(item.answers):
        yield from _answer(f"{'AB'[place]} " if len(item.answers) > 1 else "", answer, asked, most)


def _turns(asked: Asked, answers: Sequence[Answered], most: int) -> Iterator[str]:
    if not asked.turns and asked.position is not None:
        yield f"  question {safe(asked.question)}"
    for number, words in enumerate(asked.turns):
        yield from _block(f"  {number + 1}. ", words, most)
        if number < len(asked.gold_replies):
            own = [one.earlier[number] for one in answers if number < len(one.earlier)]
            for reply in own or [asked.gold_replies[number]]:
                yield from _block("     → ", reply, most)


def _choices(asked: Asked, answers: Sequence[Answered], most: int) -> Iterator[str]:
    for number, choice in enumerate(asked.choices):
        scores = [f"{one.logprobs[number]:9.3f}" if number < len(one.logprobs) else " " * 9 for one in answers if any_scores(answers)]
        by = [f"{'AB'[i]} " if len(answers) > 1 else "" for i in range(len(answers))]
        marks = [_GOLD] if number == asked.answer else []
        marks += [f"{by[i]}{_CHOSEN}" for i, one in enumerate(answers) if one.chosen == number]
        ending = f"  ({', '.join(marks)})" if marks else ""
        yield f"     {' '.join([*scores, safe(clipped(choice, most))])}{ending}"


def any_scores(answers: Iterable[Answered]) -> bool:
    """Whether a run scored the choices."""
    return any(one.logprobs for one in answers)


def _answer(by: str, answer: Answered, asked: Asked, most: int) -> Iterator[str]:
    """What was generated, and what else is known; a chosen choice is marked in the list already."""
    if answer.reasoning:
        yield from _block(f"  {by}reasoning: ", answer.reasoning, most)
    if answer.reply and not (answer.logprobs and answer.chosen is not None):
        yield from _block(f"  {by}reply: ", answer.reply, most)
    facts = [f"{safe(answer.metric)} {answer.score:g}"] if answer.score is not None else []
    facts += [f"read by: {safe(answer.evidence)}"] if answer.evidence else []
    facts += [f"ended by: {safe(answer.finish_reason)}"] if answer.finish_reason else []
    if facts:
        yield f"  {by}{', '.join(facts)}"
    if answer.why:
        yield from _block(f"  {by}error: ", answer.why, most)


def _block(label: str, text: str, most: int) -> Iterator[str]:
    """A text behind its label, wrapped, later lines indented below the first."""
    indent = " " * len(label)
    lead = label
    for line in clipped(text, most).replace("\t", " ").split("\n"):
        yield from textwrap.wrap(line, _WIDTH, initial_indent=lead, subsequent_indent=indent, drop_whitespace=True) or [lead.rstrip()]
        lead = indent

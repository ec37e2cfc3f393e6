"""The gap between two sides of a task, item by item and cause by cause (docs/spec/explain.md#the-parts)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evaluators.explain.settings import Standing, standings
from evaluators.explain.sides import ASKED, Answer, AskedTask, Cause

INTERACTION, TOGETHER, REST = "interaction", "not told apart", "not explained"
PARTS = ("items", "prompt", "template", "extraction", "truncation", "decoding", "weights", "dtype", INTERACTION, TOGETHER, REST)
_EXACT = 1e-9
_CUT_CHARACTER = "\ufffd"  # a character whose bytes were cut


@dataclass(frozen=True, kw_only=True)
class TaskSplit:
    """A task of both sides: what each item of both adds to each part. The sum over the parts of the means is the gap."""

    a: AskedTask
    b: AskedTask
    items: tuple[str, ...]  # of both, in A's order
    missing: float  # part 1
    parts: Mapping[str, tuple[float, ...]]  # of PARTS but "items" -> contribution per item
    causes: Mapping[str, tuple[Cause, ...]]  # item that is not told apart or not explained -> the causes that are possible
    standing: Mapping[Cause, Standing]
    other: int  # items of both names that do not ask the same
    unread: int  # items of which rule and reply are not told apart

    @property
    def gap(self) -> float:
        """A's score minus B's, each over all its items."""
        return self.a.score - self.b.score

    @property
    def only_a(self) -> int:
        """Items that only A has."""
        return len(self.a.answers) - len(self.items)

    @property
    def only_b(self) -> int:
        """Items that only B has."""
        return len(self.b.answers) - len(self.items)

    def part(self, name: str) -> float:
        """A part of the gap."""
        if name == "items":
            return self.missing
        return sum(self.parts[name]) / len(self.items) if self.items else 0.0


def split(a: AskedTask, b: AskedTask, stated: Collection[str] = ()) -> TaskSplit:
    """Split the gap of a task. `stated`: causes that the user knows to be equal."""
    shared = [item for item in a.answers if item in b.answers]
    items = [item for item in shared if _same_question(a.answers[item], b.answers[item])]
    of_a, of_b = [a.answers[item] for item in items], [b.answers[item] for item in items]
    by_b, by_a = _readings(of_a, of_b, a, b)
    standing = standings(a, b, stated)
    parts: dict[str, list[float]] = {name: [0.0] * len(items) for name in PARTS if name != "items"}
    causes: dict[str, tuple[Cause, ...]] = {}
    unread = 0
    for i, (item, x, y) in enumerate(zip(items, of_a, of_b, strict=True)):
        a_by_b, b_by_a = by_b[i], by_a[i]
        if a_by_b is None or b_by_a is None:
            difference, possible = x.score - y.score, _possible(x, y, standing, rule=True)
            unread += 1
        else:
            parts["extraction"][i] = b_by_a - y.score
            difference = a_by_b - y.score
            parts[INTERACTION][i] = x.score - y.score - parts["extraction"][i] - difference
            possible = _possible(x, y, standing, rule=False)
        if abs(difference) > _EXACT:
            part = _part(possible)
            parts[part][i] += difference
            if part in (TOGETHER, REST):
                causes[item] = tuple(possible)
    common_a, common_b = _mean(of_a), _mean(of_b)
    return TaskSplit(
        a=a,
        b=b,
        items=tuple(items),
        missing=(a.score - common_a) - (b.score - common_b),
        parts={name: tuple(values) for name, values in parts.items()},
        causes=causes,
        standing=standing,
        other=len(shared) - len(items),
        unread=unread,
    )


def _mean(answers: Sequence[Answer]) -> float:
    return sum(answer.score for answer in answers) / len(answers) if answers else 0.0


def _same_question(a: Answer, b: Answer) -> bool:
    return not (a.asked and b.asked) or a.asked == b.asked


# ---------------------------------------------------------------- readings


def _readings(of_a: Sequence[Answer], of_b: Sequence[Answer], a: AskedTask, b: AskedTask) -> tuple[list[float | None], list[float | None]]:
    """Per item f(r_A, e_B) and f(r_B, e_A)."""
    if a.rule == b.rule:
        return [one.score for one in of_a], [one.score for one in of_b]
    by_b, by_a = _read(of_a, a, b, of_b), _read(of_b, b, a, of_a)
    for i, (x, y) in enumerate(zip(of_a, of_b, strict=True)):
        if x.reply is not None and x.reply == y.reply:
            by_b[i] = y.score if by_b[i] is None else by_b[i]
            by_a[i] = x.score if by_a[i] is None else by_a[i]
    return by_b, by_a


def _read(answers: Sequence[Answer], of: AskedTask, rule_of: AskedTask, own: Sequence[Answer]) -> list[float | None]:
    """Scores of the answers of one side by the rule of the other: on record, or run once it has given back its own side's scores."""
    recorded = next((metric for metric, rule in of.rules.items() if rule == rule_of.rule), None)
    if recorded is not None:
        return [answer.scores.get(recorded) for answer in answers]
    if rule_of.read is None:
        return [None] * len(answers)
    again = rule_of.read(own)
    if any(value is None or abs(value - answer.score) > _EXACT for value, answer in zip(again, own, strict=True)):
        return [None] * len(answers)
    return rule_of.read(answers)


# ---------------------------------------------------------------- causes of an item


Possible = Mapping[Cause, bool]  # cause that may be behind an item's difference -> whether it is on record that it differs


def _possible(a: Answer, b: Answer, standing: Mapping[Cause, Standing], *, rule: bool) -> Possible:
    """The causes that may be behind an item's difference; `rule`: the extraction rule is one of them."""
    cut = _is_cut(a, b)
    if cut and not rule:
        return {"truncation": True}
    found: dict[Cause, bool] = {"extraction": True} if rule else {}
    if cut or (_limits_differ(a, b) and (a.cut or b.cut) and a.reply != b.reply):
        found["truncation"] = None not in (a.limit, b.limit) or cut
    same_prompt = _prompts_comparable(a, b) and a.prompt == b.prompt
    for cause in ASKED:
        same_words = cause == "prompt" and a.words and a.words == b.words
        if same_words or (cause in ("prompt", "template") and same_prompt) or standing[cause].state == "stated equal":
            continue
        if standing[cause].state == "different" or _shown_apart(cause, a, b, standing):
            found[cause] = True
        elif standing[cause].state == "not recorded":
            found[cause] = False
    return found


def _shown_apart(cause: Cause, a: Answer, b: Answer, standing: Mapping[Cause, Standing]) -> bool:
    """Whether the item itself shows that a cause differs."""
    if cause == "prompt" and a.words and b.words:
        return a.words != b.words
    if cause == "prompt":  # the same template, and another text
        return _prompts_comparable(a, b) and a.prompt != b.prompt and standing["template"].state in ("equal", "stated equal")
    return cause == "decoding" and _decoded_apart(a, b)


def _prompts_comparable(a: Answer, b: Answer) -> bool:
    return bool(a.prompt and b.prompt) and a.prompt.partition(":")[0] == b.prompt.partition(":")[0]


def _part(possible: Possible) -> str:
    if not any(possible.values()):
        return REST
    return next(iter(possible)) if len(possible) == 1 else TOGETHER


def _limits_differ(a: Answer, b: Answer) -> bool:
    return a.limit is None or b.limit is None or a.limit != b.limit


def _decoded_apart(a: Answer, b: Answer) -> bool:
    """Both drawn at random, or other stop strings."""
    return bool(a.drawn and b.drawn) or (a.stops is not None and b.stops is not None and set(a.stops) != set(b.stops))


def _is_cut(a: Answer, b: Answer) -> bool:
    """Whether one reply is the other, cut at a limit of tokens."""
    if a.reply is None or b.reply is None or not _limits_differ(a, b):
        return False
    short, long = sorted((a, b), key=lambda one: len(one.reply or ""))
    beginning, whole = (str(one.reply).strip() for one in (short, long))
    beginning = beginning.rstrip(_CUT_CHARACTER)
    if beginning == whole or not whole.startswith(beginning):
        return False
    if short.cut is not None:
        return short.cut
    if not beginning or short.limit is None or long.limit is None or short.limit >= long.limit or short.stops is None:
        return False
    following = str(long.reply)[len(str(short.reply).rstrip(_CUT_CHARACTER)) :]
    return not any(following.lstrip(" ").startswith(stop) for stop in short.stops if stop)

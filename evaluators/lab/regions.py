"""Where text is lost and who loses it: sentences with figures, chosen by the figures of an experiment.

A method at a rate has *lost* a measure where its 95% interval is below 0, *gained* where it is above 0, *kept* where a loss of `MARGIN` or
more is excluded; otherwise the cells cannot tell. Intervals of changes are not adjusted; differences between methods are called found only
where p (Holm, over the table that they are in) is below 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evaluators.lab.answers import AFTER, TEXT, VQA, Measure
from evaluators.lab.claims import FEWEST_SEEDS, FULL, MARGIN, RELEASED, WINGS, Pairing
from evaluators.lab.effects import ONLY_ITEMS, PARTLY, Effect
from evaluators.statistics.power import ALPHA
from iit_bench.lab.cells import rate_word
from iit_bench.numerals import fixed, in_percent, interval, points
from iit_bench.types import Figure

if TYPE_CHECKING:
    from evaluators.lab.findings import ArmFigures, Findings

Fate = Literal["lost", "gained", "kept", "cannot be told"]
ONE_SEED, ONLY_QUESTIONS = "one seed", "one seed, over questions only"
MAP = "Where, and why: the map"
MAP_RULE = (
    "Chosen and written by the figures, of methods and controls. Lost or gained: the 95% interval of the change, not adjusted, excludes 0. "
    "A difference between methods is found where p (Holm, over its table) is below 0.05. A rate of LoRA or prefix tuning is its adapter's. "
    "One seed: what seeds add to its interval is estimated from the other methods at that rate; over questions only: it could not be."
)
SCORED_STRICT = " It is scored in mode strict, so this is the cost of the label leak in training and of the change of mode together."
MEASURES = (TEXT, AFTER, VQA)  # in the order of `Pairing.effects`


@dataclass(frozen=True)
class Line:
    """A sentence of the map under its heading."""

    about: str
    text: str


def fate(figure: Figure) -> Fate:
    """What the interval of a change against the base LLM says; an answer that no seed changed is kept."""
    if figure.value == 0 and figure.low is None:
        return "kept"
    if figure.low is None or figure.high is None:
        return "cannot be told"
    if figure.high < 0:
        return "lost"
    return "gained" if figure.low > 0 else "kept" if figure.low > -MARGIN else "cannot be told"


def regions(found: Findings) -> tuple[Line, ...]:
    """The map of an experiment."""
    lines = [Line("Where text is lost", _fates(found, TEXT)), Line("Where text after an image is lost", _fates(found, AFTER))]
    lines += _wings(found)
    lines += [*_equal(found), *_images(found), *_frozen(found), *_parts(found), *_changed(found), *_attention(found), *_visible(found)]
    return tuple(Line(_begun(line.about), _begun(line.text)) for line in lines if line.text)


def _begun(text: str) -> str:
    """With a capital letter: labels of methods begin with a small one."""
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- against the base


def _fates(found: Findings, measure: Measure) -> str:
    """Methods and controls by what became of a measure, with their rates; of those that lost, the points."""
    roles = {one.cell.method: one.cell.role for one in found.grid.methods}
    by_fate: dict[Fate, dict[str, list[str]]] = {"lost": {}, "gained": {}, "kept": {}, "cannot be told": {}}
    for arm in found.arms:
        effect = _change(arm, measure)
        if effect.figure.value is not None and roles[arm.key[0]] != "ablation":
            kind = fate(effect.figure)
            said = [f"{points(effect.figure.value)} {interval(effect.figure)}"] if kind in ("lost", "gained") else []
            said += filter(None, [_few(effect)])
            number = f" ({', '.join(said)})" if said else ""
            by_fate[kind].setdefault(found.grid.label(arm.key[0]), []).append(f"{rate_word(arm.key[1])}{number}")
    words = {
        "lost": "Lost (points against the base LLM)",
        "gained": "Gained",
        "kept": f"Kept, a loss of {points(MARGIN, '')} points or more excluded",
        "cannot be told": "Cannot be told",
    }
    lists = {kind: "; ".join(f"{name} at {', '.join(rates)}" for name, rates in methods.items()) for kind, methods in by_fate.items()}
    return " ".join(f"{words[kind]}: {text or 'none'}." for kind, text in lists.items()) if any(lists.values()) else ""


def _few(effect: Effect) -> str:
    """That a figure rests on one seed, and whether its interval knows what seeds add; "" if it rests on more."""
    if effect.seeds >= FEWEST_SEEDS:
        return ""
    return ONLY_QUESTIONS if effect.figure.note in (ONLY_ITEMS, PARTLY) else ONE_SEED


def _change(arm: ArmFigures, measure: Measure) -> Effect:
    return arm.text if measure is TEXT else arm.after


# ---------------------------------------------------------------- between methods


def _found(effect: Effect) -> bool:
    return effect.figure.value is not None and effect.p_holm is not None and effect.p_holm < ALPHA


def _differences(pairs: Sequence[Pairing]) -> tuple[list[str], list[str]]:
    """What is higher and what is lower by a difference that is found: "text alone at 1e-3, +13.9 [8.6, 19.2]"."""
    higher: list[str] = []
    lower: list[str] = []
    for one in pairs:
        for measure, effect in zip(MEASURES, one.effects, strict=True):
            if _found(effect):
                few = f", {_few(effect)}" if _few(effect) else ""
                words = f"{measure.title} at {rate_word(one.rate)}, {points(effect.figure.value)} {interval(effect.figure)}{few}"
                (higher if (effect.figure.value or 0) > 0 else lower).append(words)
    return higher, lower


def _compared(pairs: Sequence[Pairing], one: str, other: str) -> str:
    if not pairs:
        return ""
    higher, lower = _differences(pairs)
    rates = ", ".join(rate_word(pair.rate) for pair in pairs)
    if not higher and not lower:
        where = f"any of the rates {rates}" if len(pairs) > 1 else f"the rate {rates}"
        worst = max((effect.detectable or 0.0) for pair in pairs for effect in pair.effects)
        seen = f", and differences of up to {points(worst, '')} points could be missed" if worst else ""
        return f"{one} and {other} do not differ by a difference that is found, in any measure at {where}{seen}."
    ahead, behind = "; ".join(higher) or "nowhere", "; ".join(lower) or "nowhere"
    of = "Of the rates" if len(pairs) > 1 else "At the rate"
    return f"{of} {rates}, {one} is ahead of {other}: {ahead}. It is behind: {behind}."


def _wings(found: Findings) -> list[Line]:
    """Every main method beside full tuning, Wings first."""
    others = sorted({one.over for one in found.against_full}, key=lambda name: (name != WINGS, name))
    label = found.grid.label
    made = []
    for name in others:
        pairs = [one for one in found.against_full if one.over == name]
        about = "Where Wings wins and loses" if name == WINGS else f"{label(name)} and full tuning"
        made.append(Line(about, _compared(pairs, label(name), label(FULL))))
    return made


def _equal(found: Findings) -> list[Line]:
    parts = []
    for one in found.equal_vqa:
        if one.method != WINGS:
            continue
        level = f"the {in_percent(one.vqa)} of full tuning at {rate_word(one.rate)}" if one.vqa is not None else ""
        if one.between is None:
            parts.append(f"it does not reach the VQA of full tuning at {rate_word(one.rate)}")
        elif _found(one.text):
            parts.append(f"at {level} its text alone differs by {points(one.text.figure.value)} {interval(one.text.figure)}")
        else:
            seen = f", {points(one.text.detectable, '')} could be missed" if one.text.detectable else ""
            parts.append(f"at {level} no difference is found ({points(one.text.figure.value)} {interval(one.text.figure)}{seen})")
    never = sorted({found.grid.label(one.method) for one in found.equal_vqa if one.between is None and one.method != WINGS})
    text = f"Wings at equal VQA: {'; '.join(parts)}." if parts else ""
    text += f" Methods that do not reach full tuning's VQA at some of its rates: {', '.join(never)}." if never else ""
    return [Line("At equal VQA", text.strip())]


def _images(found: Findings) -> list[Line]:
    """What the controls without images lose by themselves, and full tuning beside them: what is not due to images."""
    made = []
    for control in sorted({one.against for one in found.against_control}):
        name = found.grid.label(control)
        pairs = [one for one in found.against_control if one.against == control and one.over == FULL]
        text = [_alone(found, control, name), *(_control(name, pairs, sign) for sign in (1, -1) if pairs)]
        if pairs and not any(text[1:]):
            text.append(f"Between full tuning and the {name} no difference in text alone is found.")
        made.append(Line(f"Images or narrow answers, by the {name}", " ".join(filter(None, text))))
    return made


def _alone(found: Findings, control: str, name: str) -> str:
    """At which rates a control, which never sees an image, loses text."""
    lost = [arm for arm in found.arms if arm.key[0] == control and fate(arm.text.figure) == "lost"]
    if not lost:
        return f"The {name} loses no text alone that can be seen."
    where = "; ".join(f"{rate_word(arm.key[1])}, {points(arm.text.figure.value)} {interval(arm.text.figure)}" for arm in lost)
    return f"The {name} loses text alone at {where}: text is lost without images too."


def _control(name: str, pairs: Sequence[Pairing], sign: int) -> str:
    """Where full tuning keeps more text than a control, or less."""
    differ = [(one.rate, one.effects[0]) for one in pairs if _found(one.effects[0]) and sign * (one.effects[0].figure.value or 0) > 0]
    where = "; ".join(f"{rate_word(rate)}, {points(effect.figure.value)} {interval(effect.figure)}" for rate, effect in differ)
    if not where:
        return ""
    if sign > 0:
        return (
            f"Full tuning, with the images, keeps more of it than the {name} at {where}. The control's answers cannot be known without the "
            "images, so the cause may be answers that are noise, or the images; the cells do not say which."
        )
    return f"Full tuning keeps less text alone than the {name} at {where}: that much is lost with the images only."


def _frozen(found: Findings) -> list[Line]:
    """With the LLM frozen, what the learners buy and cost beside the projector only."""
    text = []
    for one in found.frozen:
        parts = [
            f"{measure.title} {points(effect.figure.value)} {interval(effect.figure)}".rstrip() + (" (found)" if _found(effect) else "")
            for measure, effect in zip(MEASURES, one.effects, strict=True)
            if effect.figure.value is not None
        ]
        text.append(f"{found.grid.label(one.over)} minus {found.grid.label(one.against)}: {', '.join(parts)}.")
    return [Line("With the LLM frozen", " ".join(text))]


def _parts(found: Findings) -> list[Line]:
    """What changed in Wings moves text after an image, where learners harm: the largest change either way, and those that are found."""
    changes = [(one, one.effects[MEASURES.index(AFTER)]) for one in found.ablations if one.against == WINGS]
    known = sorted(
        ((one, effect) for one, effect in changes if effect.figure.value is not None), key=lambda pair: pair[1].figure.value or 0.0
    )
    if not known:
        return []
    named = {id(effect): (one, effect) for one, effect in (known[-1], known[0], *(pair for pair in known if _found(pair[1])))}
    said = [
        f"{found.grid.label(one.over)} at {rate_word(one.rate)} {points(effect.figure.value)} {interval(effect.figure)}".rstrip()
        + (" (found)" if _found(effect) else f", {_few(effect)}" if _few(effect) else "")
        for one, effect in named.values()
    ]
    worst = max((effect.detectable or 0.0) for _, effect in known)
    missed = f" Changes of up to {points(worst, '')} points could be missed." if worst else ""
    return [Line("Parts of Wings", f"Text after an image, changed minus whole: {'; '.join(said)}.{missed}")]


def _changed(found: Findings) -> list[Line]:
    """Rivals that change another method than Wings: full tuning with replay or averaged, the released equations."""
    made = []
    for over, against in dict.fromkeys((one.over, one.against) for one in found.ablations if one.against != WINGS):
        pairs = [one for one in found.ablations if (one.over, one.against) == (over, against)]
        note = SCORED_STRICT if over == RELEASED else ""
        label = found.grid.label
        made.append(Line(f"{label(over)}, beside {label(against)}", _compared(pairs, label(over), label(against)) + note))
    return made


def _attention(found: Findings) -> list[Line]:
    """How the points lost go with the attention shift, over all cells and within methods."""
    said = []
    for one in found.shift.follows:
        words = [_goes(figure, where) for where, figure in (("over all", one.pearson), ("within methods", one.within))]
        if any(words):
            said.append(f"The points lost on {one.measure.title} {'; '.join(filter(None, words))}.")
    if not said:
        return []
    n = len(found.shift.points)
    return [Line("Attention", f"Of {n} cells (Pearson's correlation). {' '.join(said)} By the paper they rise with it.")]


def _goes(figure: Figure, where: str) -> str:
    """The direction of a correlation with the attention shift; "" without an interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    rises = "rise with the attention shift" if figure.value > 0 else "fall as the attention shift rises"
    words = "do not follow the attention shift" if figure.low <= 0 <= figure.high else rises
    return f"{words} {where}, {fixed(figure.value, 2)} [{fixed(figure.low, 2)}, {fixed(figure.high, 2)}]"


def _visible(found: Findings) -> list[Line]:
    """The smallest effects that the tests of the claims could have found."""
    seen = [f"{test.measure.title}, {test.how}: {points(test.effect.detectable, '')}" for test in found.claims if test.effect.detectable]
    return [Line("Smallest effects that could be seen, in points", "; ".join(seen) + "." if seen else "")]

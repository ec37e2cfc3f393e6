"""Tables of docs/lab.md, for docs/make_lab.py: methods by rate, tier and source, pairs of methods, attention, the training and its cost."""

from __future__ import annotations

from collections.abc import Iterator

from evaluators.lab.claims import Pairing
from evaluators.lab.effects import Effect
from evaluators.lab.findings import PATH, Findings
from iit_bench.lab.cells import rate_word
from iit_bench.numerals import NOTHING, counted, fixed, in_percent, interval, p_value, percent, points
from iit_bench.types import Figure


def table(head: list[str], rows: Iterator[list[str]] | list[list[str]]) -> str:
    """In Markdown, after an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def figure(one: Figure, sign: str = "+") -> str:
    if one.value is None:
        return NOTHING
    value = points(one.value) if sign else percent(one.value)
    return f"{value} {interval(one, sign)}".rstrip()


def bold(effect: Effect) -> str:
    text = figure(effect.figure)
    return f"**{text}**" if effect.p_holm is not None and effect.p_holm < 0.05 else text


def p(effect: Effect) -> str:
    return p_value(effect.p_holm).replace("<", "< ")


def arms(found: Findings) -> str:
    head = ["method", "rate", "seeds", "text alone, against the base", "text after an image, against the base", "VQA, %"]
    rows = [
        [
            found.grid.label(arm.key[0]),
            rate_word(arm.key[1]),
            str(arm.seeds),
            *map(figure, (arm.text.figure, arm.after.figure)),
            figure(arm.vqa.figure, ""),
        ]
        for arm in found.arms
    ]
    return f"\n## Forgetting by rate, and what it buys\n{table(head, rows)}"


def tiers(found: Findings) -> str:
    tiers = found.grid.tiers
    rows = [
        [found.grid.label(arm.key[0]), rate_word(arm.key[1]), *(percent(arm.tiers[tier].figure.value) for tier in tiers)]
        for arm in found.arms
    ]
    head = ["method", "rate", *tiers]
    return f"\n## Dialogues from text-rich to image-rich\n\nAccuracy in %, tier by tier.\n{table(head, rows)}"


def equal(found: Findings) -> str:
    if not found.equal_vqa:
        return ""
    head = ["method", "its rates", "full tuning at", "VQA", "text alone", "text after an image"]
    rows = []
    for one in found.equal_vqa:
        low, high = one.between or (0.0, 0.0)
        words = "never reaches it" if one.between is None else rate_word(low) if low == high else f"{rate_word(low)} to {rate_word(high)}"
        rows.append([found.grid.label(one.method), words, rate_word(one.rate), in_percent(one.vqa), bold(one.text), bold(one.after)])
    return f"\n## At equal VQA\n\nMethod minus full tuning. Bold: p < 0.05 by Holm over the table.\n{table(head, rows)}"


def pairs(title: str, found: Findings, made: tuple[Pairing, ...]) -> str:
    if not made:
        return f"\n## {title}\n\nThe cells for it are not there.\n"
    head = ["difference", "rate", "seeds", "text alone", "text after an image", "VQA"]
    label = found.grid.label
    rows = [[f"{label(one.over)} - {label(one.against)}", rate_word(one.rate), str(one.seeds), *map(bold, one.effects)] for one in made]
    note = "Bold: p < 0.05 by Holm over the table. Seeds: of the one that has fewer."
    return f"\n## {title}\n\n{note}\n{table(head, rows)}"


def attention(found: Findings) -> str:
    """Correlations of the attention shift with what was lost; nothing where no cell was observed."""

    def words(one: Figure) -> str:
        if one.value is None:
            return f"not available ({one.note})"
        return fixed(one.value, 2) + ("" if one.low is None or one.high is None else f" [{fixed(one.low, 2)}, {fixed(one.high, 2)}]")

    if not found.shift.follows:
        return ""
    head = ["correlation over cells", *(f"of attention shift and points lost on {one.measure.title}" for one in found.shift.follows)]
    rows = [
        ["Pearson", *(words(one.pearson) for one in found.shift.follows)],
        ["Spearman", *(words(one.spearman) for one in found.shift.follows)],
        ["Pearson, within methods", *(words(one.within) for one in found.shift.follows)],
    ]
    n = counted(len(found.shift.points), "cell")
    return f"\n## Attention shift and forgetting\n\n{n} observed.\n{table(head, rows)}"


def layers(found: Findings) -> str:
    """Attention by layer of methods and controls; nothing where no cell was observed."""
    roles = {one.cell.method: one.cell.role for one in found.grid.methods}
    shown = [one for one in found.shift.layers if roles[one.key[0]] != "ablation"]
    if not shown:
        return ""
    head = ["method", "rate", "seeds", *(f"layer {layer + 1}" for layer in shown[0].layers)]
    rows = [
        [
            found.grid.label(one.key[0]),
            rate_word(one.key[1]),
            str(one.seeds),
            *(f"{fixed(100 * before, 2)} / {fixed(100 * after, 2)}" for before, after in zip(one.before, one.after, strict=True)),
        ]
        for one in shown
    ]
    about = "Mean attention weight, in %, of a token of the text before the image / after it, as the last token of the prompt sees them."
    return f"\n## Attention by layer\n\n{about}\n{table(head, rows)}"


def sources(found: Findings) -> str:
    """VQA by source, beside the question prior."""
    made = found.sources
    if not made.arms:
        return ""
    names = list(made.targets)
    head = ["method", "rate", "seeds", *(f"{name} (n = {made.targets[name]})" for name in names)]
    rows = [
        [
            found.grid.label(one.key[0]),
            rate_word(one.key[1]),
            str(one.seeds),
            *(figure(one.accuracy[name].figure, "") for name in names),
        ]
        for one in made.arms
    ]
    prior = ["question prior", NOTHING, NOTHING, *(percent(made.priors.get(name)) for name in names)]
    about = "Accuracy in % on tier V. The question prior sees the question's text only, and was fitted on the train splits"
    ending = "." if made.priors else "; it is not known here, because the benchmark's manifest is not."
    return f"\n## VQA by source\n\n{about}{ending}\n{table(head, [*([prior] if made.priors else []), *rows])}"


def path(found: Findings) -> str:
    if not found.path:
        return ""
    head = ["method", "rate", "seeds", "step", *(f"dev {name}, %" for name in PATH)]
    rows = [
        [found.grid.label(one.key[0]), rate_word(one.key[1]), str(one.seeds), str(step), *(percent(scores[name]) for name in PATH)]
        for one in found.path
        for step, scores in one.by_step.items()
    ]
    return f"\n## Along the training\n\nDev scores, pooled over seeds, without intervals (see Limits).\n{table(head, rows)}"


def cost(found: Findings) -> str:
    head = ["method", "cells", "trained parameters", "tokens of the last stage", "CPU s of the last stage", "a step, × full tuning's"]
    rows = [
        [
            found.grid.label(one.method),
            str(one.cells),
            f"{one.trained:,}",
            f"{one.tokens:,}",
            f"{one.cpu_train:.0f}",
            NOTHING if one.relative is None else f"{one.relative:.2f}",
        ]
        for one in found.costs
    ]
    if any(one.memory is not None for one in found.costs):
        head.append("peak of the process, MB")
        rows = [[*row, NOTHING if one.memory is None else f"{one.memory / 1e6:,.0f}"] for row, one in zip(rows, found.costs, strict=True)]
    builds = {one.versions.get("iit-bench commit", "an unnamed one") for one in found.grid.results if one.state == "done"}
    mixed = f" They are of {counted(len(builds), 'build')} of the trainer, some faster than others." if len(builds) > 1 else ""
    return f"\n## Cost\n\nMeans over cells, beside other work on the same machine.{mixed}\n{table(head, rows)}"

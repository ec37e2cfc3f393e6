"""Two runs of one benchmark side by side: paired differences per tier and over pools of tiers (docs/spec/iit.md#comparable-runs).

Everything that puts two runs into one number or one table goes through `check_comparable` first.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Names, Turns, codes_among, turns
from evaluators.iit.results import Pairs, paired_result
from evaluators.statistics import Ints
from iit_bench.errors import UserError
from iit_bench.numerals import NOTHING, counted, interval, p_value, points
from iit_bench.storage.runs import IitRun
from iit_bench.types import Decision, PairedResult, PairedTest, Prediction, tier_order

Predictions = Turns | Iterable[Prediction]  # of one run, in any order

# Where two runs must agree: what the message calls it -> path in run.json.
MUST_AGREE = {
    "benchmark hash": ("benchmark", "rows_sha256"),
    "scoring": ("scoring",),
    "style": ("style",),
    "history": ("history",),
    "limit": ("limit",),
}

TEST_LABELS = {"mcnemar exact": "McNemar", "cluster sign-flip": "sign-flip", "two-way t": "two-way t"}  # of a narrow column
TEST_NAMES: Mapping[PairedTest, str] = {
    "": "none",
    "mcnemar exact": "exact McNemar",
    "cluster sign-flip": "sign-flip by cluster",
    "two-way t": "two-way t",
    "paired t": "paired t",
}

NOT_KNOWN = "not known"  # a chat template that a baseline does not have, or that a server keeps to itself


def check_comparable(run_a: Mapping[str, Any], run_b: Mapping[str, Any], *, subset: bool = False) -> None:
    """Refuse two runs whose answers are not to the same questions, asked and scored in the same way.

    Args:
        run_a, run_b: contents of run.json.
        subset: a run that stopped when it was decided passes, since only the groups that both asked are looked at.

    Raises:
        UserError: `incomparable` finds something; the message names it, with both values.
    """
    if differing := incomparable(run_a, run_b, subset=subset):
        raise UserError(
            f"runs {_name(run_a)} and {_name(run_b)} cannot be compared, they differ in {', '.join(differing)}; "
            "evaluate one of them again with the settings of the other"
        )


def incomparable(run_a: Mapping[str, Any], run_b: Mapping[str, Any], *, subset: bool = False) -> list[str]:
    """In what two runs differ that must be equal, each with both values; nothing where they may share a table.

    Benchmark hash, scoring, style, history, limit, arm, where a run until decided stopped, and system prompt; the reply length where
    replies are generated; and, where both show images, how images are processed: all that is recorded of one processor, and what the
    user set of any. With `subset`, where a run until decided stopped does not count.

    Raises:
        UserError: a run.json does not hold what must agree.
    """
    values = {what: (_look_up(run_a, path), _look_up(run_b, path)) for what, path in MUST_AGREE.items()}
    if not subset:
        values["where it stops"] = (_stop(run_a), _stop(run_b))
    values["arm"] = (run_a.get("arm") or None, run_b.get("arm") or None)
    values["system prompt"] = (run_a.get("system_prompt") or None, run_b.get("system_prompt") or None)
    if run_a["scoring"] == run_b["scoring"] == "generate":
        values["reply length"] = (run_a.get("max_new_tokens"), run_b.get("max_new_tokens"))
    if _shows_images(run_a) and _shows_images(run_b):
        values |= _image_processing(run_a, run_b)
    return [f"{what} ({_show(a)} and {_show(b)})" for what, (a, b) in values.items() if a != b]


def stopped_early(*runs: IitRun) -> tuple[str, ...]:
    """Of runs that are compared: a sentence for each that stopped because it was decided (docs/spec/iit.md#decided-runs)."""
    found = []
    for run in runs:
        decision = run.results.decision
        if decision is not None and decision.verdict != "undecided":
            asked = dataclasses.replace(decision, asked=decision.asked or run.run.get("groups_asked") or 0)
            found.append(
                f"{_name(run.run)} stopped when it was decided, {after_groups(asked)}: these figures are of that subset, and their "
                "intervals and p-values, made for a fixed number of items, are too narrow for it. "
                "Its results.json has the interval that holds, in decision."
            )
    return tuple(found)


def after_groups(decision: Decision) -> str:
    """After how many groups a run was decided, and how many its scores are over where its last block has more; one wording everywhere."""
    after = f"after {decision.groups:,} of {counted(decision.of_groups, 'group')}"
    if decision.asked <= decision.groups:
        return after
    return f"{after} (the last block was asked to its end, so scores are over {decision.asked:,} groups)"


def asked_apart(run_a: Mapping[str, Any], run_b: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What may differ between runs that are compared, and is shown beside their numbers: what -> (value of A, value of B) where unequal."""
    pairs = {what: (value, asked_with(run_b)[what]) for what, value in asked_with(run_a).items()}
    return {what: values for what, values in pairs.items() if values[0] != values[1]}


def asked_with(run: Mapping[str, Any]) -> dict[str, str]:
    """How a model's chat template was used, in words: the start of its hash, its arguments, the day it is told, what it writes before a
    reply where that is recorded; the reasoning budget; the version of how models are asked."""
    model: Mapping[str, Any] = run.get("model") or {}
    settings: Mapping[str, Any] = model.get("settings") or {}
    arguments: Mapping[str, Any] = run.get("chat_template_kwargs") or settings.get("chat_template_kwargs") or {}
    budget = run.get("reasoning_tokens") if run.get("scoring") == "generate" else None
    scored = run.get("scoring") == "loglikelihood"
    delimiter = settings.get("reply_delimiter") if scored else None  # missing where it is empty, and in runs of earlier versions
    return {
        "chat template": str(model.get("chat_template_sha256") or "")[:8] or NOT_KNOWN,
        "template arguments": ", ".join(f"{name}={json.dumps(arguments[name])}" for name in sorted(arguments)) or "none",
        "date": str(settings.get("date") or "not asked for"),
        "reply delimiter": ", ".join(f"{name} {json.dumps(text)}" for name, text in (delimiter or {}).items() if text) or "none recorded",
        "reasoning tokens": str(budget or 0),
        "version of asking": str(run.get("answers_version") or 1),
    }


def _stop(run: Mapping[str, Any]) -> str | None:
    """Of a run until decided, which of the groups it asked: a subset, as with a limit."""
    until: Mapping[str, Any] | None = run.get("until")
    return None if until is None else f"decided, {run.get('groups_asked')} groups, seed {until['seed']}"


def _shows_images(run: Mapping[str, Any]) -> bool:
    model: Mapping[str, Any] = run.get("model") or {}
    return bool(model.get("accepts_images")) and not model.get("blind") and any("V" in tier for tier in run.get("tiers") or ())


def _image_processing(run_a: Mapping[str, Any], run_b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What must agree of two runs that show images: label -> both values. Processors of two kinds are parts of two kinds of models."""
    a, b = (dict((run["model"].get("settings") or {}).get("image_processing") or {}) for run in (run_a, run_b))
    set_a, set_b = (one.pop("processor_kwargs", None) or run.get("processor_kwargs") or {} for one, run in ((a, run_a), (b, run_b)))
    names = set_a | set_b
    values: dict[str, tuple[Any, Any]] = {f"image setting {name}": (set_a.get(name), set_b.get(name)) for name in sorted(names)}
    if a and b and a.get("processor") == b.get("processor"):
        values |= {f"image processing, {name}": (a.get(name), b.get(name)) for name in sorted(a | b)}
    return values


def compare(predictions_a: Predictions, predictions_b: Predictions, against: str) -> tuple[PairedResult, ...]:
    """Accuracy of A minus accuracy of B over the targets that both finished.

    Args:
        predictions_a, predictions_b: of two runs that passed `check_comparable`.
        against: name of run B.

    Returns:
        The tiers both ran, from text-only to multimodal-rich, then the pools: "T*" and "V*" (tiers that end in T, in V), and "*" (all).
        A pool is there if it joins two tiers or more; its difference is over items, not over tiers. Holm is applied over the tiers, and by
        itself over the pools.

    Raises:
        UserError: the runs share no tier.
    """
    pairs = pair_targets(predictions_a, predictions_b)
    if not pairs:
        raise UserError(f"the run and {against!r} have no tier in common; evaluate both on the same tiers")
    pools = {f"{ending}*": [tier for tier in pairs if tier.endswith(ending)] for ending in ("T", "V", "")}
    pooled = [pool(pairs, members, name, against) for name, members in pools.items() if len(members) > 1]
    # Where all tiers end alike, "*" would repeat the pool before it.
    if len(pooled) == 2 and len(pools["T*"]) in (0, len(pairs)):
        pooled = pooled[:1]
    return per_tier(pairs, against) + statistics.with_holm(pooled)


def pair_targets(predictions_a: Predictions, predictions_b: Predictions, *, reordered: bool = False) -> dict[str, Pairs]:
    """Target turns of two runs by tier, in tier order, paired by (dialogue, position); only tiers that both ran.

    A target that one side lacks is left out here; n shows it. Items that ended in an error are kept and left out by `paired_result`.

    Args:
        predictions_a, predictions_b: of two runs.
        reordered: their choices may be in different orders.

    Raises:
        UserError: a pair does not ask the same question with the same choices.
    """
    a, b = (every.take(every.is_target) for every in (turns(predictions_a), turns(predictions_b)))
    of_a, of_b = a.by_tier(), b.by_tier()
    shared = np.isin(np.arange(len(a)), [row for tier, rows in of_a.items() if tier in of_b for row in rows])
    pairs = pair_turns(a.take(shared), b, reordered=reordered)
    by_tier = pairs.a.by_tier()
    none = np.zeros(0, dtype=np.int64)
    return {
        tier: Pairs(pairs.a.take(by_tier.get(tier, none)), pairs.b.take(by_tier.get(tier, none)))
        for tier in sorted(of_a.keys() & of_b.keys(), key=tier_order)
    }


def pair_turns(a: Turns, b: Turns, *, reordered: bool = False) -> Pairs:
    """All turns that two runs scored, history turns too, paired by (dialogue, position), in the order of `a`; failed ones are among them.

    With `reordered`, their choices may be in different orders.

    Raises:
        UserError: a pair does not ask the same question with the same choices.
    """
    dialogue = _in_the_names_of(a.dialogue, b.dialogue)
    reach = 1 + max((int(side.position.max()) for side in (a, b) if len(side)), default=0)
    turns_a, turns_b = a.dialogue.code.astype(np.int64) * reach + a.position, dialogue * reach + b.position
    if np.array_equal(turns_a, turns_b):
        rows_a = rows_b = np.arange(len(a))
    else:
        _, rows_a, rows_b = np.intersect1d(turns_a, turns_b, return_indices=True)
    order = np.argsort(rows_a)
    pairs = Pairs(a.take(rows_a[order]), b.take(rows_b[order]))
    _check_asked_alike(pairs, reordered)
    return pairs


def _check_asked_alike(pairs: Pairs, reordered: bool) -> None:
    a, b = pairs.a, pairs.b
    differs = a.n_choices != b.n_choices if reordered else a.answer != b.answer
    for mine, other in ((a.tier, b.tier), (a.question, b.question), *(() if reordered else ((a.asked, b.asked),))):
        differs |= mine.code != _in_the_names_of(mine, other)
    if len(found := np.flatnonzero(differs)):
        dialogue = a.dialogue.names[a.dialogue.code[found[0]]]
        raise UserError(f"dialogue {dialogue!r} asks another question in the second run; evaluate both on the same benchmark")


def _in_the_names_of(mine: Names, other: Names) -> Ints:
    return codes_among(other.names, mine.names)[other.code] if len(other.code) else np.zeros(0, dtype=np.int64)


def per_tier(pairs: Mapping[str, Pairs], against: str) -> tuple[PairedResult, ...]:
    """One result per tier, Holm over them."""
    return statistics.with_holm([paired_result(pairs[tier], over=tier, against=against) for tier in pairs])


def pool(pairs: Mapping[str, Pairs], tiers: Iterable[str], name: str, against: str) -> PairedResult:
    """One result over the items of several tiers, clustered by connected components of group and cluster."""
    return paired_result(Pairs.concat([pairs[tier] for tier in tiers]), over=name, against=against)


def as_table(
    results: Sequence[PairedResult],
    name_a: str,
    name_b: str,
    width: int = 120,
    apart: Mapping[str, tuple[str, ...]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The results as plain text, `width` characters at most; differences in percentage points.

    `apart` is as `asked_apart` gives it, `notes` are sentences of the runs.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, title=Text(f"Accuracy of {name_a} minus {name_b}, percentage points"), title_justify="left")
    table.add_column("tier", no_wrap=True)
    for heading in ("difference", "95% interval", "n", "clusters", "A only", "B only", "p", "Holm", "detectable"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("test", no_wrap=True)
    for r in results:
        d = r.difference
        counts = (str(d.n), str(d.clusters), str(r.only_a), str(r.only_b))
        chances = (p_value(r.p), p_value(r.p_holm), _detectable(r), TEST_LABELS.get(r.test, d.note))
        table.add_row(Text(r.over), points(d.value), interval(d) or NOTHING, *counts, *chances)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(table)
    console.print(Text("A only, B only: items right only in that run. Holm: p adjusted over the tiers, and by itself over the pools."))
    console.print(Text("Detectable: smallest difference that the test finds with 80% power at Holm's first step (≥: few pairs differ)."))
    for sentence in notes:
        console.print(Text(sentence))
    for what, values in (apart or {}).items():
        console.print(Text(f"Not the same on both sides: {what} ({values[0]} and {values[1]})."))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def as_dict(
    results: Sequence[PairedResult], name_a: str, name_b: str, apart: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """The results for `--json`: {"a", "b", "asked_apart", "results": [PairedResult as a dict]}; differences as fractions."""
    unequal = {what: list(values) for what, values in (apart or {}).items()}
    return {"a": name_a, "b": name_b, "asked_apart": unequal, "results": [dataclasses.asdict(r) for r in results]}


def _detectable(result: PairedResult) -> str:
    """A lower limit where fewer pairs differ than the test needs to be significant at all."""
    few = result.detectable is not None and result.detectable_floor is not None
    return ("≥" if few else "") + points(result.detectable, sign="")


def _look_up(run: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = run
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            raise UserError(f"run.json of {_name(run)} has no {'.'.join(path)!r}; evaluate that model again")
        value = value[key]
    return value


def _name(run: Mapping[str, Any]) -> str:
    return repr(str(run.get("name", "unnamed")))


def _show(value: Any) -> str:
    """A value for a message: a hash by its first characters, no limit as "none"."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else text[:12]

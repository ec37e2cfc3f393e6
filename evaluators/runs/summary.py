"""The output of `iit-bench eval`: the figures of one run, for a terminal or as JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.iit.comparison import after_groups
from evaluators.runs.marks import unsealed_note
from evaluators.statistics import FEW, few_items
from iit_bench.errors import one_line
from iit_bench.numerals import counted, in_percent
from iit_bench.storage import anew
from iit_bench.storage.runs import EARLIER_TURN
from iit_bench.storage.tables import canonical_json
from iit_bench.types import Figure, Results, SuiteResults

_NOT_COMPLETE = "  not complete: some items failed for reasons of the machine (errors.jsonl); repeat the command to resume"
_SUITE_NOT_COMPLETE = "  not complete: some items (errors.jsonl) or data sets (see above) failed; repeat the command to resume"


def summary_text(name: str, results: Results | SuiteResults, errors: Sequence[Mapping[str, Any]] = (), unsealed: Sequence[str] = ()) -> str:
    """The scores with 95% intervals and n, one per line; and the most frequent of the reasons in `errors` (lines of errors.jsonl).

    `unsealed` are names of runs, as `marks.unsealed_at` gives them.
    """
    lines = _suite_lines(name, results) if isinstance(results, SuiteResults) else _iit_lines(name, results)
    if errors:
        lines += [f"  most frequent error: {_most_frequent(errors)}"]
    if unsealed:
        lines += [f"  {unsealed_note(unsealed)}"]
    not_complete = anew.resumable(_SUITE_NOT_COMPLETE if isinstance(results, SuiteResults) else _NOT_COMPLETE)
    return "\n".join(lines + ([] if results.complete else [not_complete]))


def nothing_answered(results: Results | SuiteResults, errors: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about a run all of whose items failed, for reasons of their own; "" for any other."""
    failed = results.outcomes.get("error", 0)
    if not results.complete or not failed or failed != sum(results.outcomes.values()):
        return ""
    most = f" most frequent error: {_most_frequent(errors)};" if errors else ""
    return (
        f"no item was answered, {failed:,} of {failed:,} failed;{most} remove the cause that errors.jsonl names, then repeat with --fresh"
    )


def exceeds(results: Results | SuiteResults, allowed: int) -> bool:
    """Whether more items than `allowed` have failed, or some for reasons of the machine, which resuming may cure: the exit code is 1."""
    return not results.complete or results.outcomes.get("error", 0) > allowed


def too_many_failed(results: Results | SuiteResults, errors: Sequence[Mapping[str, Any]], allowed: int) -> str:
    """One sentence about a run that has more failed items than are allowed; "" for any other, and for one that is to be resumed."""
    failed = results.outcomes.get("error", 0)
    if not results.complete or failed <= allowed:
        return ""
    return nothing_answered(results, errors) or (
        f"{counted(failed, 'item has', 'items have')} failed for reasons of their own (errors.jsonl), {allowed:,} may; remove the cause, "
        f"or allow them with --allow-errors {failed}"
    )


def _most_frequent(errors: Sequence[Mapping[str, Any]]) -> str:
    """Reason, detail and count; of a turn that was not asked the reason of the turn before it that failed."""
    asked = [error for error in errors if error["reason"] != EARLIER_TURN] or errors
    ((reason, count),) = Counter(error["reason"] for error in asked).most_common(1)
    ((detail, _),) = Counter(error["detail"] for error in asked if error["reason"] == reason).most_common(1)
    return f"{reason}{f': {one_line(ValueError(detail))}' if detail else ''} ({count:,} of {len(errors):,} errors)"


def _iit_lines(name: str, results: Results) -> list[str]:
    lines = [
        f"{name}: {_counted(results.n_dialogues, 'dialogue')}, "
        + ", ".join(f"{n} {outcome}" for outcome, n in results.outcomes.items() if n)
    ]
    scores = [("IIT score", results.iit), ("T score", results.t_score), ("V score", results.v_score)]
    scores += [("text-only score", results.text_only_score), (_subset_label(results), results.subset_score)]
    rows = [(label, figures["acc"]) for label, figures in scores if figures]
    rows += [(f"tier {tier.tier}", tier.acc) for tier in results.tiers]
    if results.forgetting:
        rows += [(f"forgotten against {results.forgetting.base}", results.forgetting.pooled.difference)]
        rows += [("retention", results.forgetting.retention)]
    lines += _decision_lines(results)
    shown = [(label, figure) for label, figure in rows if figure.value is not None]
    width = max((len(label) for label, _ in shown), default=0)
    lines += [f"  {label:{width}}  {_figure(figure)}" for label, figure in shown]
    lacking: dict[str, list[str]] = {}  # one line for all that is lacking for the same reason
    for label, figure in rows:
        if figure.value is None:
            lacking.setdefault(figure.note, []).append(label)
    apart = results.forgetting.asked_apart if results.forgetting else {}
    lines += [f"  not the same in the base run: {what} ({' there, '.join(values)} here)" for what, values in apart.items()]
    lines += _ledger_line(results)
    lines += [f"  not available ({reason}): {', '.join(labels)}" for reason, labels in lacking.items()]
    return lines


def _decision_lines(results: Results) -> list[str]:
    """Of a run until decided: the verdict, with its interval, and after how many groups."""
    decision = results.decision
    if decision is None:
        return []
    if decision.note:
        return [f"  asked whole, not until decided: {decision.note}"]
    base = results.forgetting.base if results.forgetting else "the base"
    meaning = {
        "lost": f"lost: text-only abilities of {base} were lost",
        "not lost": f"not lost: less than {in_percent(decision.margin)} was lost against {base}",
        "undecided": f"undecided: neither a loss against {base} was found nor one of {in_percent(decision.margin)} or more ruled out",
    }[decision.verdict]
    if decision.verdict == "undecided" and not results.complete:
        meaning = "not decided yet: an error of the machine ended the run"
    return [
        f"  {meaning}; {after_groups(decision)}; e-values: {decision.e_lost:.3g} for a loss, {decision.e_not_lost:.3g} against one, "
        f"{decision.e_needed:g} decides",
        f"  loss{_figure(decision.loss)}; this interval holds whenever a run stops, others of a run that stopped early are too narrow",
    ]


def _ledger_line(results: Results) -> list[str]:
    """What changed hands against the base; nothing without a ledger, or without an item in it."""
    ledger = results.forgetting.ledger if results.forgetting else None
    if ledger is None or not (n := sum(ledger.parts[0].counts.values())):
        return []
    whole = ledger.parts[0]
    counts = ", ".join(f"{whole.counts[name]:,} {name}" for name in ("lost", "gained", "kept"))
    lost = _figure(whole.corrected["lost"]).strip()
    few = f" (few items: under {FEW})" if "lost" in few_items(whole.counts) else ""
    return [f"  of {n:,} text items: {counts}; corrected for lucky guesses, {lost} lost{few}"]


def _subset_label(results: Results) -> str:
    tiers = ", ".join(results.subset_tiers)  # none where no tier has a result
    return f"subset score ({tiers})" if tiers else "subset score"


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _suite_lines(name: str, results: SuiteResults) -> list[str]:
    """The main figure of each task, with its notes."""
    counts = ", ".join(f"{n} {outcome}" for outcome, n in results.outcomes.items() if n)
    lines = [f"{name}: suite {results.suite}, {counts or 'no items at hand'}"]
    labels = [f"{task.task} ({task.metric})" if task.metric else task.task for task in results.tasks]
    width = max(map(len, labels), default=0)
    for label, task in zip(labels, results.tasks, strict=True):
        figure = task.scores.get(task.metric, Figure(None, note="no score"))
        lines += [f"  {label:{width}}  {_figure(figure) if task.best == 1 else _points(figure, task.best)}"]
        lines += [f"  {'':{width}}  {note}" for note in (*(f"warning: {one}" for one in task.warnings), *task.notes)]
    return lines


def _points(figure: Figure, best: float | None) -> str:
    """A figure in its own unit."""
    if figure.value is None:
        return _figure(figure)
    interval = f" [{figure.low:.6g}, {figure.high:.6g}]" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:.6g}{f' of {best:.6g}' if best is not None else ''}{interval} {_size(figure)}"


def left_out_text(run: Mapping[str, Any]) -> str:
    """The groups of a run.json that its style cannot ask; "" if there are none."""
    groups = (run.get("left_out") or {}).get("prefix_choices", 0)
    return (
        f"  left out: {_counted(groups, 'group')} in which one choice begins with another, which style {run['style']} cannot ask"
        if groups
        else ""
    )


def server_text(run: Mapping[str, Any]) -> str:
    """The server's answers and tokens of a run.json, and whether it takes images; "" if the model was not behind a server."""
    usage = run["usage"]
    if not usage:
        return ""
    cost = "" if usage["cost"] is None else f", cost {usage['cost']:.4g}"
    counts = f"{usage['prompt_tokens']:,} prompt and {usage['reply_tokens']:,} reply tokens"
    missing = f" ({usage['answers_without_counts']} without counts)" if usage["answers_without_counts"] else ""
    images = run["model"]["details"].get("images", "taken")
    refused = "" if images == "taken" or run["model"]["blind"] else f"; images: {images}"
    return f"the server gave {usage['answers']:,} answers{missing}: {counts}{cost}{refused}"


def summary_json(results: Results | SuiteResults) -> str:
    """The results as one line of JSON."""
    return canonical_json(dataclasses.asdict(results))


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return f"not available ({figure.note})"
    bounds = f" [{in_percent(figure.low)}, {in_percent(figure.high)}]" if figure.low is not None and figure.high is not None else ""
    return f"{in_percent(figure.value):>6}{bounds} {_size(figure)}"


def _size(figure: Figure) -> str:
    return f"n={figure.n}" if figure.n else "n unknown"

"""The section of a model's page on a run that stopped when it was decided (docs/spec/iit.md#decided-runs)."""

from __future__ import annotations

from dataclasses import replace

from evaluators.iit.comparison import after_groups
from iit_bench.types import Forgetting, Results
from reports.cells import count, interval, percent
from reports.section import Definitions, Section, Words

TOO_NARROW = (
    "The run stopped because of what it saw. Intervals that are made for a fixed number of items, as all others on this page, are too "
    "narrow for such a run, and its scores are of a subset."
)


def decision_section(results: Results) -> Section | None:
    """The verdict with its evidence, or why none was looked for; None for a run that was not to stop when decided."""
    decision = results.decision
    if decision is None:
        return None
    if decision.note:
        return Section("decision", "Lost or not", (Words(f"The run was asked whole, not until decided: {decision.note}.", "lead"),))
    loss, rest = decision.loss, decision.asked > decision.groups
    value = "not available" if loss.value is None else f"{percent(loss.value)} points ({interval(loss, signed=True)}; n {count(loss.n)})"
    facts = (
        ("loss against the base", value),
        (
            "decided after" if decision.verdict != "undecided" else "stopped after",
            f"{count(decision.groups)} of {count(decision.of_groups)} groups, {count(loss.clusters)} independent clusters",
        ),
        *((("scores are over", f"{count(decision.asked)} groups: the last block was asked to its end"),) if rest else ()),
        ("e-value for a loss", f"{decision.e_lost:.3g} ({decision.e_needed:g} decides)"),
        (f"e-value for a loss below {percent(decision.margin)} points", f"{decision.e_not_lost:.3g} ({decision.e_needed:g} decides)"),
    )
    fine = Words("The interval of the loss is a confidence sequence: it holds the true loss with 95%, whenever the run stops.", "fine")
    narrow = () if decision.verdict == "undecided" else (Words(TOO_NARROW, "notice"),)
    return Section("decision", "Lost or not", (Words(sentence(results), "lead"), Definitions(facts), fine, *narrow))


def lost_of(results: Results) -> Forgetting | None:
    """What a run forgot; of one that stopped when it was decided, with the loss and the interval that hold whenever it stops."""
    forgotten, decision = results.forgetting, results.decision
    if forgotten is None or decision is None or decision.loss.value is None:
        return forgotten
    return replace(forgotten, pooled=replace(forgotten.pooled, difference=decision.loss))


def sentence(results: Results) -> str:
    """The verdict in one sentence; "" for a run that was not to stop when decided, or was asked whole all the same."""
    decision, forgetting = results.decision, results.forgetting
    if decision is None or decision.note:
        return ""
    base = forgetting.base if forgetting else "the base"
    where = after_groups(decision)
    if decision.verdict == "lost":
        return f"Text-only abilities of {base} were lost: decided {where}."
    margin = f"{percent(decision.margin)} points"
    if decision.verdict == "not lost":
        return f"Less than {margin} of the text-only abilities of {base} were lost: decided {where}."
    if not results.complete:
        return f"Not decided yet {where}: an error of the machine ended the run; the same command resumes it."
    return f"Undecided {where}: neither was a loss against {base} found, nor one of {margin} or more ruled out."

"""The page of one model: a sentence that says what it forgot, and a section per question that a reader has about it.

A section is a function from the model's `Subject` to a `Section`, or to None where the page has nothing to say about it; `SECTIONS` has
them in the order of the page.
"""

from __future__ import annotations

from collections.abc import Callable

from reports import headlines, links
from reports.iit import curves, interleaving, run_facts
from reports.iit import forgetting as lost
from reports.iit import sections as accuracies
from reports.iit.arms import arms_section
from reports.iit.attention import attention_section
from reports.iit.calibration import calibration_section
from reports.iit.decision import decision_section
from reports.iit.ledger import ledger_section
from reports.pages import Page
from reports.samples.section import changed, dialogues
from reports.section import Beside, Folded, Section, none, tables
from reports.subject import Subject


def scores(subject: Subject) -> Section:
    """The curve beside its base's, and accuracy by tier."""
    base = subject.base
    drawings = curves.panels([*([base] if base else []), subject.entry], keys=("text", "visual"))  # both together would tell less
    drawn = (Beside(tuple(drawings)),) if drawings else ()
    return Section("scores", "Scores and tiers", (*drawn, *tables(accuracies.by_tier(subject.entry, base))))


def effects(subject: Subject) -> Section:
    """What a history changes for the same targets, by tier."""
    found = interleaving.interleaving([subject.entry])
    if found is None:
        return none("interleaving", "Interleaving effect", "no tier with a history was run beside its target without one.")
    return Section("interleaving", "Interleaving effect", tables(found[1]))


def forgetting(subject: Subject) -> Section:
    """What was lost against the base, by tier."""
    found = lost.forgetting([subject.entry]) if subject.entry.run.results.forgetting is not None else None
    if found is None:
        return none("forgetting", "Text-only forgetting", "the run was not evaluated against a base run (iit-bench eval --base RUN).")
    pooled, by_tier, detail = found
    return Section("forgetting", "Text-only forgetting", (*tables(pooled, by_tier), Folded("Tests by tier", tables(detail))))


def subjects(subject: Subject) -> Section:
    """Accuracy by source and subject, without history; by position where every turn was scored."""
    found = [table for modality in "TV" if (table := accuracies.breakdown([subject.entry], modality)) is not None]
    positions = tables(accuracies.positions([subject.entry]))
    if not found:
        return none("subjects", "By subject", "no tier was answered.")
    return Section("subjects", "By subject", (Beside(tables(*found)), *positions))


# Sections of the model itself come first, those of its run last; what is between has a file per question.
SECTIONS: tuple[Callable[[Subject], Section | None], ...] = (
    lambda subject: decision_section(subject.entry.run.results),
    forgetting,
    ledger_section,
    scores,
    subjects,
    effects,
    arms_section,
    calibration_section,
    attention_section,
    dialogues,
    lambda subject: run_facts.outcomes(subject.entry),
    lambda subject: run_facts.cost(subject.entry),
    lambda subject: run_facts.provenance(subject.entry),
)


def model_page(subject: Subject) -> Page:
    """The page of a model."""
    made = tuple(section for make in SECTIONS if (section := make(subject)) is not None)
    entry = subject.entry
    return Page(
        place=links.model(entry.slug),
        stem=f"model-{entry.slug}",
        title=entry.name,
        headline=(headlines.of_model(entry),),
        ways=changed(subject),
        sections=made,
    )

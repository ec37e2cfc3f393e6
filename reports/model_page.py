"""The page of one model: a sentence that says what it forgot, and a section per question that a reader has about it.

A section is a function from the model's `Subject` to a `Section`, or to None where the page has nothing to say about it; `SECTIONS` has
them in the order of the page.
"""

from __future__ import annotations

from collections.abc import Callable

from reports import links
from reports.iit import sections as accuracies
from reports.page import render
from reports.section import Section, tables
from reports.shared import SCORES
from reports.subject import Subject


def scores(subject: Subject) -> Section:
    """Accuracy by tier and subject."""
    mine = [subject.entry]
    boards = accuracies.leaderboards(mine, "acc")
    return Section("scores", "Scores", (*tables(*boards), *tables(*(accuracies.breakdown(mine, modality) for modality in "TV"))))


SECTIONS: tuple[Callable[[Subject], Section | None], ...] = (scores,)


def model_page(subject: Subject) -> str:
    """The page as text."""
    made = [section for make in SECTIONS if (section := make(subject)) is not None]
    context = {
        "title": subject.entry.name,
        "entry": subject.entry,
        "headline": headline(subject),
        "sections": made,
        "home": links.at(links.INDEX, 1),
    }
    return render("model.html", context)


def headline(subject: Subject) -> str:
    """One sentence with the number in it: what the model forgot against its base, else its first score."""
    from reports.cells import interval, percent

    forgotten = subject.entry.run.results.forgetting
    if forgotten is not None and forgotten.pooled.difference.value is not None:
        difference = forgotten.pooled.difference
        assert difference.value is not None
        verb = "lost" if difference.value >= 0 else "gained"
        return (
            f"Against {forgotten.base}, {subject.entry.name} {verb} {percent(abs(difference.value))} percentage points on text targets "
            f"({interval(difference, signed=True)} lost; n {difference.n})."
        )
    for score in SCORES:
        figure = score.of(subject.entry)
        if figure.value is not None:
            return f"{subject.entry.name} has a score of {percent(figure.value)} % ({score.name}, {score.small}; {interval(figure)})."
    return f"{subject.entry.name} has no score over all tiers."

"""The way from a model's page into the explorer."""

from __future__ import annotations

from reports import links
from reports.section import Links, Section, Words
from reports.subject import Subject


def front_section(no_samples: str) -> Section:
    """Of the first page: the link to the explorer, or why there is none."""
    if no_samples:
        return Section("dialogues", "Dialogues", (Words(no_samples, "none"),))
    way = Links((("Every dialogue, as it was asked and answered", links.SAMPLES),))
    return Section("dialogues", "Dialogues", (way,))


def dialogues(subject: Subject) -> Section:
    """Links to the model's dialogues, those that changed hands first; or why there are none."""
    if subject.no_samples:
        return Section("dialogues", "Dialogues", (Words(subject.no_samples, "none"),))
    others = (("Every dialogue, with the model's answer", _at(subject)), ("What it got wrong", _at(subject, outcome="wrong")))
    return Section("dialogues", "Dialogues", (Links((*changed(subject), *others)),))


def changed(subject: Subject) -> tuple[tuple[str, str], ...]:
    """Links to what the model lost and gained against its base, where dialogues are shown and the base is on the page."""
    if subject.no_samples or subject.base is None:
        return ()
    return tuple((f"What it {word} against {subject.base.name}", _at(subject, change=word)) for word in ("lost", "gained"))


def _at(subject: Subject, **filters: str) -> str:
    return links.at(links.samples(subject.entry.slug, **filters), 1)

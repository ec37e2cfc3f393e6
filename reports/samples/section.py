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
    slug = subject.entry.slug
    wanted: list[tuple[str, dict[str, str]]] = [("Every dialogue, with the model's answer", {})]
    if subject.base is not None:
        wanted = [
            (f"What it lost against {subject.base.name}", {"change": "lost"}),
            (f"What it gained against {subject.base.name}", {"change": "gained"}),
            *wanted,
        ]
    wanted.append(("What it got wrong", {"outcome": "wrong"}))
    return Section("dialogues", "Dialogues", (Links(tuple((text, links.at(links.samples(slug, **more), 1)) for text, more in wanted)),))

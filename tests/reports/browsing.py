"""What tests ask of a page in Chromium, each in one call: a call to the browser per element took most of their time."""

from __future__ import annotations

from typing import Any

Box = dict[str, float]  # x, y, width, height

UNFOLD = """() => {
    for (const details of document.querySelectorAll("details"))
        if (details.checkVisibility() && !details.open) details.querySelector("summary").click();
}"""
BOXES = """() => {
    const box = (element) => element.getBoundingClientRect().toJSON();
    return [...document.querySelectorAll("figure svg")].map((svg) => [box(svg), [...svg.querySelectorAll("text")].map(box)]);
}"""


def unfold(page: Any) -> None:
    """Click on all that is folded and in sight, in the order of the page."""
    page.evaluate(UNFOLD)


def boxes_of_figures(page: Any) -> list[tuple[Box, list[Box]]]:
    """Of each figure its box, and those of its texts.

    Raises:
        AssertionError: one of them is not shown.
    """
    found = [(frame, texts) for frame, texts in page.evaluate(BOXES)]
    assert all(box["width"] > 0 for frame, texts in found for box in (frame, *texts)), "not shown"
    return found

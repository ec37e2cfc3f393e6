"""The experiment's page in Chromium, of the cells in docs/: it fits a phone, texts of its figures do not touch, axe-core finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.lab.page import lab_page
from tests.reports.browsing import boxes_of_figures, unfold
from tests.reports.samples.test_explorer_in_browser import violations
from tests.reports.test_page_in_browser import overlap

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELLS = Path(__file__).parents[2] / "docs" / "lab" / "cells"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lab_page(CELLS, tmp_path_factory.mktemp("page")).as_uri()


@pytest.fixture(params=["light", "dark"])
def page(new_page: Callable[..., Any], place: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page on a phone, all that is folded opened; afterwards it asserts a clean console."""
    said: list[str] = []
    one = new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param)
    one.on("console", lambda message: said.append(message.text))
    one.on("pageerror", lambda error: said.append(str(error)))
    one.goto(place)
    unfold(one)
    yield one
    one.close()
    assert said == []


def test_the_page_fits_a_phone_and_has_no_violation_of_axe(page: Any, axe: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for frame, boxes in boxes_of_figures(page):
        assert all(box["x"] >= frame["x"] - 1 and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1 for box in boxes)
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if overlap(a, b)]
    assert violations(page, axe) == []

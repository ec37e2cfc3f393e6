"""The pages behind the leaderboard in Chromium: they fit a phone, run clean, follow each other by keyboard, and show their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.build import BuildOptions, build
from iit_bench.storage.benchmark import load_benchmark
from reports.leaderboard import report
from tests.reports.browsing import boxes_of_figures, unfold
from tests.reports.test_benchmark_page import asked, of_its_dialogues
from tests.reports.test_page_in_browser import LONG, overlap

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, maker_in: Any) -> Path:
    bench = load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("bench") / "b", preset="lab", size=12)))
    make, benchmark = maker_in(tmp_path_factory.mktemp("runs")), asked(bench)
    runs = [
        make("base", 0.95, text_only=True, n=12, benchmark=benchmark),
        make("wings", 0.9, base="base", n=12, benchmark=benchmark),
        make(LONG, 0.5, base="base", n=12, folder="long", benchmark=benchmark),
    ]
    runs = [of_its_dialogues(run, bench) for run in runs]
    return report(runs, tmp_path_factory.mktemp("report"), bench=bench.path, samples=False).parent


@pytest.fixture
def page(site: Path, new_page: Callable[..., Any]) -> Iterator[Any]:
    """A page; afterwards it asserts a clean console, and that nothing outside of the folder was asked for."""
    said, wanted = [], []
    one = new_page(viewport={"width": 390, "height": 844})
    one.on("console", lambda message: said.append(message.text))
    one.on("pageerror", lambda error: said.append(str(error)))
    one.on("request", lambda request: wanted.append(request.url))
    yield one
    one.close()
    assert said == []
    assert all(url.startswith(site.as_uri()) for url in wanted)


def test_no_page_is_wider_than_a_phone_and_texts_of_figures_do_not_touch(site: Path, page: Any) -> None:
    for place in sorted(site.rglob("*.html")):
        page.goto(place.as_uri())
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, place
        for frame, boxes in boxes_of_figures(page):
            assert all(box["x"] >= frame["x"] - 1 and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1 for box in boxes), place
            assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if overlap(a, b)], place


def test_menus_open_and_close_by_keyboard_and_lead_to_the_other_pages(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    models = page.locator("details.menu").first
    models.locator("summary").press("Enter")
    assert models.get_by_role("link", name="wings", exact=True).is_visible()
    page.keyboard.press("Escape")
    assert not models.get_by_role("link", name="wings", exact=True).is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Models"
    models.locator("summary").press("Enter")
    models.get_by_role("link", name="wings", exact=True).press("Enter")
    page.wait_for_url("**/models/wings.html")
    page.get_by_role("link", name="Leaderboard").press("Enter")
    page.wait_for_url("**/index.html")
    page.get_by_role("link", name="against its base").first.press("Enter")
    page.wait_for_url("**/pairs/base--wings.html")


def test_pictures_are_loaded_when_they_come_into_sight(site: Path, page: Any) -> None:
    page.goto((site / "benchmark.html").as_uri())
    with page.expect_request("**/gallery/*.jpg"):
        page.locator(".gallery").scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    assert page.locator(".gallery img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0

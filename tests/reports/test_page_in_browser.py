"""The page in Chromium: it runs clean, sorts, fits a phone, follows the colour scheme, and reads without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.leaderboard import report
from tests.reports.browsing import boxes_of_figures, unfold

LONG = "a model whose name goes on_and_on_" + "without_a_single_space_" * 5

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def report_path(tmp_path_factory: pytest.TempPathFactory, maker_in: Any, suite_maker_in: Any) -> Path:
    make, suite = maker_in(tmp_path_factory.mktemp("runs")), suite_maker_in(tmp_path_factory.mktemp("suites"))
    runs = [
        make("base", 0.95, text_only=True, n=30),
        make("wings", lambda tier: 0.9 - 0.1 * tier.count("V"), base="base", n=30, model={"checkpoint_sha256": "a" * 64}),
        make("blind", 0.5, n=30, model={"checkpoint_sha256": "a" * 64, "blind": True}),
        make(LONG, 0.6, base="base", n=30, failed=2, folder="long"),
        make("<img src=x onerror=alert(1)>", 0.3, n=30, folder="hostile"),
    ]
    tasks = {f"task_with_a_long_name_{i}": 0.9 - i / 40 for i in range(16)}
    runs += [
        suite("text", "base", tasks),
        suite("text", LONG, tasks, folder="long-text"),
        suite("text", "wings", tasks, model={"checkpoint_sha256": "a" * 64}),
    ]
    runs += [
        suite("vqa", "wings", {"MME": 0.5, "AI2D": 0.7}, model={"checkpoint_sha256": "a" * 64}),
        suite("vqa", "<b>", {"MME": 0.6}, folder="b", limit=3),
    ]
    return report(runs, tmp_path_factory.mktemp("report"))


@pytest.fixture
def open_page(new_page: Callable[..., Any], report_path: Path) -> Iterator[OpenPage]:
    """`open_page(**context options)`; afterwards it asserts a clean console and that only the page itself was requested."""
    pages, said, asked = [], [], []

    def open_one(**options: Any) -> Any:
        page = new_page(**options)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report_path.as_uri())
        return page

    yield open_one
    for page in pages:
        page.close()
    assert said == []
    assert set(asked) == {report_path.as_uri()}


TIERS = "Every tier and every score"


def names(page: Any, table: str = "leaderboard-acc") -> list[str]:
    found: list[str] = page.locator(f"#{table} tbody th bdi:first-of-type").all_inner_texts()
    return found


@pytest.mark.slow
def test_sorting_by_click_and_by_keyboard_sets_aria_sort(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_text(TIERS).click()
    first = names(page)
    assert first[0] == "wings" and "base" not in first and names(page, "leaderboard-text-acc") == ["base"]
    head = page.locator("#leaderboard-acc thead th").nth(1)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(page) == first[::-1]
    by_name = page.locator("#leaderboard-acc thead th").first
    by_name.get_by_role("button").press("Enter")
    assert by_name.get_attribute("aria-sort") == "ascending" and head.get_attribute("aria-sort") is None
    assert names(page) == sorted(first, key=lambda name: (name[0].isalpha(), name))
    assert page.locator("#leaderboard-acc tfoot th bdi:first-of-type").first.inner_text() == "chance"


@pytest.mark.slow
def test_each_block_of_the_table_of_all_suites_sorts_by_itself_and_keeps_missing_last(open_page: OpenPage) -> None:
    page = open_page()
    head = page.locator("#overview thead tr").nth(1).locator("th").nth(5)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    headings = page.locator("#overview tbody > tr:first-child > th").all_inner_texts()
    assert headings == ["models that take images", "text LLMs", "without an IIT run"]
    present = []
    for body in page.locator("#overview tbody").all():
        cells = body.locator("td:nth-child(6)").evaluate_all("cells => cells.map(cell => cell.dataset.sort)")
        present.append([float(cell) for cell in cells if cell])
        assert present[-1] == sorted(present[-1], reverse=True) and cells[len(present[-1]) :] == [""] * (len(cells) - len(present[-1]))
    assert [len(block) for block in present] == [2, 1, 0]
    assert page.locator("#overview thead tr").first.locator("th").all_inner_texts() == ["IIT", "Text-only (lm-eval)", "VQA (VLMEvalKit)"]


@pytest.mark.slow
def test_metric_choice_shows_one_table_at_a_time(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_text(TIERS).click()
    assert page.locator("#leaderboard-acc").is_visible() and not page.locator("#leaderboard-acc_norm").is_visible()
    page.get_by_role("radio", name="acc_norm").check()
    assert page.locator("#leaderboard-acc_norm").is_visible() and not page.locator("#leaderboard-acc").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("width", [320, 375, 1280])
def test_page_never_scrolls_sideways(open_page: OpenPage, width: int, javascript: bool) -> None:
    page = open_page(viewport={"width": width, "height": 800}, java_script_enabled=javascript)
    unfold(page)  # what is closed would hide what is too wide
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory, maker_in: Any, suite_maker_in: Any) -> Path:
    """A page of a model and of a task whose names are longer than a screen is wide."""
    make, suite = maker_in(tmp_path_factory.mktemp("runs")), suite_maker_in(tmp_path_factory.mktemp("suites"))
    task = "a_task_" * 60
    runs = [make("short", 0.5, n=12), make(ENDLESS, 0.6, n=12, folder="endless")]
    runs += [suite("text", ENDLESS, {task: 0.5, "words": 0.5}, folder="endless-text"), suite("text", "short", {task: 0.6})]
    return report(runs, tmp_path_factory.mktemp("report"))


ENDLESS = "a model whose name does not end " * 12
LONG_NAMES = """() => [...document.querySelectorAll("table")].filter((table) => table.checkVisibility()).flatMap((table) =>
    [...table.querySelectorAll("bdi.clipped")].map((name) => {
        const box = name.getBoundingClientRect(), line = parseFloat(getComputedStyle(name).lineHeight);
        return [table.id, box.height / line, box.width, name.title === name.textContent, name.scrollHeight > name.clientHeight];
    }))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1280])
def test_a_name_of_any_length_takes_three_lines_of_a_table_and_is_whole_in_its_tooltip(
    new_page: Callable[..., Any], endless: Path, width: int
) -> None:
    """Its row was as high as a screen, and a task's column as wide as three."""
    page = new_page(viewport={"width": width, "height": 800})
    page.goto(endless.as_uri())
    unfold(page)
    found = page.evaluate(LONG_NAMES)
    assert {"overview", "leaderboard-acc", "scores-text"} <= {table for table, *_ in found}
    for table, lines, wide, whole, is_cut in found:
        assert lines < 3.2 and wide <= 400 and whole and is_cut, (table, lines, wide, whole, is_cut)
    tallest = page.evaluate("Math.max(...[...document.querySelectorAll('#overview tr, #scores-text tr')].map((row) => row.clientHeight))")
    assert tallest <= 160
    assert page.locator("#overview tbody th bdi.clipped").first.inner_text().strip() == ENDLESS.strip()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('#overview bdi.clipped')).display") == "inline"
    page.close()


@pytest.mark.slow
def test_on_paper_the_whole_leaderboard_fits_the_sheet(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 1032, "height": 730}, color_scheme="dark")  # A4 landscape less its margins, in CSS pixels
    page.get_by_text(TIERS).click()
    page.emulate_media(media="print")
    for name in ("leaderboard-acc", "overview"):
        right = page.locator(f"#{name}").evaluate("table => table.getBoundingClientRect().right")
        assert right <= 1032
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.slow
def test_on_a_phone_the_table_scrolls_in_its_own_box_with_the_names_in_sight(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 375, "height": 800})
    page.get_by_text(TIERS).click()
    box = page.locator(".scroll:has(#leaderboard-acc)")
    name = page.locator("#leaderboard-acc tbody th").first
    before = name.bounding_box()["x"]
    box.evaluate("box => { box.scrollLeft = 400 }")
    assert box.evaluate("box => box.scrollLeft") == 400
    assert name.bounding_box()["x"] == before
    assert name.bounding_box()["width"] < 375 / 2


@pytest.mark.slow
def test_dark_scheme_changes_paper_and_ink_and_both_keep_contrast(open_page: OpenPage) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        colours = page.evaluate("['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])")
        muted = page.evaluate("getComputedStyle(document.querySelector('td small')).color")
        assert contrast(colours[0], colours[1]) >= 7
        assert contrast(colours[0], muted) >= 4.5
        curve = page.evaluate("getComputedStyle(document.querySelector('figure path[stroke^=\"var(--series-0\"]')).stroke")
        assert contrast(colours[0], curve) >= 3
        seen[scheme] = (*colours, curve)
    assert all(light != dark for light, dark in zip(seen["light"], seen["dark"], strict=True))


@pytest.mark.slow
def test_without_javascript_tables_and_figures_are_there(open_page: OpenPage) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#leaderboard-acc tbody tr").count() == 4
    page.get_by_text(TIERS).click()
    assert page.locator("#leaderboard-acc").is_visible()
    assert page.locator("figure svg").count() == 4 and page.locator("figure svg").first.is_visible()
    page.get_by_text("The same by acc_norm").click()
    assert page.locator("#leaderboard-acc_norm").is_visible()
    assert page.locator("button").count() == 0


@pytest.mark.slow
def test_figure_texts_stay_inside_their_figure_and_do_not_touch(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_text("Text and visual targets apart").click()
    for frame, boxes in boxes_of_figures(page):
        for box in boxes:
            assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
            assert box["y"] >= frame["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if overlap(a, b)]


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    """Boxes share an area; two pixels of line height are not ink."""
    wide = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    high = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    return wide > 0 and high > 2


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two `rgb(r, g, b)` colours."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)

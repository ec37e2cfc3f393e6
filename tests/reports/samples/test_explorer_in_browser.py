"""The explorer in Chromium, from disk: filters, links, keys, side by side, phone, dark, no JavaScript, hostile text, axe-core."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from iit_bench.visible import visible
from reports import links
from reports.leaderboard import report
from tests.reports.samples.conftest import opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Explore = Callable[..., Any]


def count(page: Any) -> int:
    return int(re.sub(r"\D", "", page.locator("#found").inner_text().split(" of ")[0]))


def heading(page: Any) -> str:
    text: str = page.locator("#detail-heading").inner_text()
    return text


def until(page: Any, condition: str, *values: Any) -> None:
    page.wait_for_function(condition, arg=list(values))


def choose(page: Any, name: str, value: str) -> None:
    page.select_option(f"#by-{name}", value)
    until(page, "([name, value]) => new URLSearchParams(location.hash.slice(1)).get(name) === value", name, value)
    opened(page)


def go_on(page: Any) -> None:
    """To the next item of the list, by its key."""
    before = page.evaluate("location.hash")
    page.keyboard.press("j")
    until(page, "([before]) => location.hash !== before", before)
    opened(page)


def test_it_opens_on_a_dialogue_with_its_chat_and_answers(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings")
    first = real.bench.dialogues[0]
    assert heading(page) == first.id and count(page) == len(real.bench.dialogues)
    assert page.locator(".chat > li").count() == len(first.turns)
    texts = page.locator(".chat .asked").all_inner_texts()
    assert [text.strip() for text in texts] == [real.bench.questions[turn].question for turn in first.turns]
    heads = page.locator("#detail table thead th").all_inner_texts()
    assert heads[:3] == ["model", "wings", "base-llm"]


def test_log_probabilities_and_outcomes_are_those_of_the_run(real: SimpleNamespace, explore: Explore) -> None:
    p = next(one for one in real.runs["wings"].predictions if one.tier == "TV")
    page = explore(real.folder, f"#run=wings&against=none&item={quote(p.dialogue, safe='')}")
    rows = page.locator("#detail tbody tr").all()
    shown = {row.locator("th .text").inner_text(): row.locator("td").first.inner_text() for row in rows if row.locator("th .text").count()}
    assert set(shown) == set(p.choices)
    for choice, value in zip(p.choices, p.logprobs, strict=True):
        assert shown[choice].startswith(f"{value:.2f}".replace("-", "\N{MINUS SIGN}"))
        assert ("chosen" in shown[choice]) == (choice == p.reply)
    assert page.locator("#detail .outcome").first.inner_text() == p.outcome


@pytest.mark.parametrize("run, name, value", [("wings", "tier", "VT"), ("wings", "source", "facts"), ("random", "outcome", "wrong")])
def test_a_filter_leaves_what_has_it_and_the_address_keeps_it(
    real: SimpleNamespace, explore: Explore, run: str, name: str, value: str
) -> None:
    page = explore(real.folder, f"#run={run}")
    choose(page, name, value)
    wanted = sum(getattr(p, name) == value for p in real.runs[run].predictions)
    assert 0 < wanted < len(real.bench.dialogues) and count(page) == wanted
    again = explore(real.folder, page.evaluate("location.hash"))
    assert count(again) == wanted


def test_what_was_lost_against_the_base_is_listed(real: SimpleNamespace, explore: Explore) -> None:
    base = {p.dialogue: p.outcome for p in real.runs["base-llm"].predictions}
    lost = [p.dialogue for p in real.runs["random"].predictions if base.get(p.dialogue) == "correct" and p.outcome != "correct"]
    page = explore(real.folder, "#run=random&against=base-llm&change=lost")
    assert len(lost) > 1 and count(page) == len(lost) and heading(page) == lost[0]
    assert "lost against base-llm" in page.locator("#detail").inner_text()


def test_search_finds_questions_and_ids_and_if_asked_replies(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=random&against=none")
    target = real.bench.questions[real.bench.dialogues[0].target]
    page.fill("#by-q", target.question[:20].upper())
    page.press("#by-q", "Enter")
    until(page, "() => location.hash.includes('q=')")
    opened(page)
    wanted = [
        one.id
        for one in real.bench.dialogues
        if any(target.question[:20].lower() in real.bench.questions[turn].question.lower() for turn in one.turns)
    ]
    assert count(page) == len(wanted) >= 1
    page.fill("#by-q", "")
    page.press("#by-q", "Enter")
    until(page, "() => !location.hash.includes('q=')")


def test_a_link_to_an_item_opens_it_whatever_its_id(real: SimpleNamespace, explore: Explore) -> None:
    wanted = real.bench.dialogues[-1].id
    page = explore(real.folder, "#" + links.item("wings", wanted).partition("#")[2])
    assert heading(page) == wanted
    assert page.locator('#items a[aria-current="true"]').count() == 1
    missing = explore(real.folder, "#" + links.item("nobody", "nothing").partition("#")[2])
    assert "no dialogue nothing" in missing.locator("#failure").inner_text() or "no run nobody" in missing.locator("#failure").inner_text()


def test_several_runs_are_side_by_side(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings&with=base-llm,random")
    heads = page.locator("#detail table thead th").all_inner_texts()
    assert heads[:2] == ["model", "wings"] and set(heads[2:]) == {"random", "base-llm"}
    page.get_by_text("Side by side with").click()
    page.get_by_role("checkbox", name="random", exact=True).uncheck()
    until(page, "() => document.querySelectorAll('#detail table thead th').length === 3")
    assert page.get_by_role("checkbox", name="random", exact=True).is_visible()  # the list stays open


def test_own_history_shows_the_answer_to_every_turn(real: SimpleNamespace, explore: Explore) -> None:
    dialogue = next(one for one in real.bench.dialogues if len(one.turns) == 3)
    page = explore(real.folder, f"#run=random-own&against=none&item={quote(dialogue.id, safe='')}")
    assert page.locator("#detail table").count() == 3


def test_arms_are_further_runs_under_a_filter(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings")
    choose(page, "arm", "blind")
    until(page, "() => document.querySelector('#by-against').value === 'wings'")
    page.get_by_text("The target's images are removed").first.wait_for()


def test_the_prompt_is_what_the_run_folder_has(real: SimpleNamespace, explore: Explore) -> None:
    columns = {name: column.to_pylist() for name, column in real.runs["wings"].prompt_columns().items()}
    place = next(i for i, places in enumerate(columns["image_places"]) if len(places) == 2)
    page = explore(real.folder, f"#run=wings&item={quote(columns['dialogue'][place], safe='')}")
    page.get_by_text("Prompt as wings read it").click()
    page.wait_for_selector("#detail pre.prompt")
    marks = page.locator("#detail pre.prompt .place")
    assert marks.all_inner_texts() == ["picture 1", "picture 2"]
    page.evaluate("document.querySelectorAll('pre.prompt .place').forEach((mark) => mark.remove())")
    assert page.locator("#detail pre.prompt").evaluate("box => box.textContent") == columns["prompt"][place]


def test_a_run_without_prompts_says_so(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=random&against=none")
    page.get_by_text("Prompt as random read it").click()
    page.get_by_text("Not recorded").wait_for()


def test_keys_go_through_the_list_and_to_the_search(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings")
    ids = [dialogue.id for dialogue in real.bench.dialogues]
    for key, wanted in (("j", ids[1]), ("j", ids[2]), ("k", ids[1]), ("ArrowDown", ids[2])):
        page.keyboard.press(key)
        until(page, "([id]) => document.getElementById('detail-heading').textContent === id", wanted)
        until(page, "() => document.activeElement.getAttribute('aria-current') === 'true'")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "by-q"
    page.keyboard.type("jk")
    assert heading(page) == ids[2] and page.input_value("#by-q") == "jk"
    page.keyboard.press("Escape")
    page.fill("#by-q", "")
    page.press("#by-q", "Enter")
    until(page, "([id]) => document.getElementById('detail-heading').textContent === id", ids[0])
    page.uncheck("#keys-on")
    page.keyboard.press("j")
    page.check("#keys-on")
    go_on(page)
    assert heading(page) == ids[1]  # the first `j` led nowhere


def test_on_a_phone_the_filters_are_a_line_that_opens_by_key(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings&tier=VT", viewport={"width": 390, "height": 844})
    summary = page.locator("#filters-box > summary")
    assert not page.locator("#filters").is_visible() and summary.inner_text() == "Filters wings, against base-llm, VT"
    assert page.locator("#items a").first.bounding_box()["y"] < 844
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#by-tier").is_visible()
    choose(page, "tier", "VV")
    assert page.locator("#by-tier").is_visible()  # it stays open while filters are set
    summary.focus()
    page.keyboard.press("Space")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "by-q" and page.locator("#by-q").is_visible()


def test_on_a_wide_screen_the_filters_are_as_they_were_left(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings", viewport={"width": 1280, "height": 800})
    for is_open in (True, False) * 4:
        assert page.locator("#filters").is_visible() == is_open
        with page.expect_navigation():  # the reader leaves before the browser has told the page of the click
            page.evaluate("() => { document.querySelector('#filters-box > summary').click(); location.reload(); }")
        opened(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    opened(page)
    assert not page.locator("#filters").is_visible()


def test_the_last_page_of_the_list_has_the_rest(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings")
    total = len(real.bench.dialogues)
    assert page.locator("#items li").count() == 50
    page.click("#later")
    until(page, "([wanted]) => document.querySelectorAll('#items li').length === wanted", total - 50)
    assert page.locator("#later").is_disabled()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_never_scrolls_sideways(real: SimpleNamespace, explore: Explore, width: int, scheme: str) -> None:
    page = explore(real.folder, "#run=wings&with=base-llm,random", viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_javascript_every_dialogue_is_on_pages_that_links_lead_to(real: SimpleNamespace, visit: Callable[..., Any]) -> None:
    page = visit(real.folder / links.SAMPLES, java_script_enabled=False)
    assert not page.locator("#filters").is_visible() and not page.locator("#filters-box").is_visible()
    assert page.locator(".notice").filter(has_text="need JavaScript").is_visible()
    found: list[str] = []
    page.locator("#pages a").first.click()
    while True:
        page.wait_for_load_state()
        found += page.locator("article h2").all_inner_texts()
        after = page.locator('header a[rel="next"]')
        if not after.count():
            break
        after.click()
    ids = [dialogue.id for dialogue in real.bench.dialogues]
    assert found[: len(ids)] == ids
    assert page.locator("article img").first.evaluate("image => image.getAttribute('loading')") == "lazy"


def test_pictures_are_loaded_when_they_are_seen(real: SimpleNamespace, explore: Explore) -> None:
    dialogue = next(one for one in real.bench.dialogues if one.tier == "VV")
    page = explore(real.folder, f"#run=wings&item={quote(dialogue.id, safe='')}")
    until(page, "() => [...document.querySelectorAll('.chat img')].filter((image) => image.naturalWidth > 0).length === 2")


# ---------------------------------------------------------------- hostile text


def test_nothing_that_a_model_or_data_set_wrote_runs_or_breaks_the_page(hostile: Path, explore: Explore) -> None:
    page = explore(hostile, viewport={"width": 1000, "height": 800})
    page.evaluate("window.marked = 1")
    seen = set()
    for _ in range(14):
        seen.add(heading(page))
        for summary in page.locator("#detail summary").all():
            summary.click()
        until(page, "() => [...document.querySelectorAll('#detail details[open] > div')].every((box) => box.childNodes.length)")
        assert page.locator("#detail script, #detail img[src=x], #detail [onmouseover], #items script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1000
        go_on(page)
    assert len(seen) >= 10 and page.evaluate("window.marked") == 1  # the page was not left
    text = page.evaluate("document.body.textContent")
    assert "\u202e" not in text and "\u0000" not in text and "⟨U+202E⟩" in text


def test_hostile_messages_of_arms_run_nothing(hostile: Path, explore: Explore) -> None:
    page = explore(hostile, viewport={"width": 1000, "height": 800})
    runs = page.locator("#by-run option").evaluate_all("options => options.map((option) => option.value)")
    choose(page, "run", next(slug for slug in runs if "wings" in slug))
    page.wait_for_selector("#by-arm")
    arms = page.locator("#by-arm option").evaluate_all("options => options.map((option) => option.value)")
    assert arms == ["", "blind", "moved-last", "irrelevant", "pixels"]
    for arm in arms[1:]:
        choose(page, "arm", arm)
        page.locator(".chat .badge").filter(has_text=arm).first.wait_for()
        assert page.locator("#detail script, #detail img[src=x], #detail [onmouseover]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1000


def test_hostile_filters_hold_and_long_texts_open_in_parts(hostile: Path, explore: Explore) -> None:
    page = explore(hostile)
    for value in page.locator("#by-subject option").evaluate_all("options => options.map((option) => option.value)")[1:]:
        choose(page, "subject", value)
        assert count(page) > 0
    page.click("#reset")
    opened(page)
    found = False
    for _ in range(12):
        button = page.locator("#detail button").filter(has_text="Show all").first
        if button.count() and button.is_visible():
            button.click()
            assert "more characters are in the run folder only" in page.locator("#detail").inner_text()
            found = True
            break
        go_on(page)
    assert found


def test_texts_are_spelled_out_as_python_does(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder)
    for text in (
        "a\u3164\u115fb",
        "a" + "\u0301" * 30 + "b",
        "e\u0301\u200d" * 9,
        "a" + "\u200d\u0301" * 9,
        "a\u034f\u0301\u202e\u0301",
        "👩\u200d👧 đã",
    ):
        assert page.evaluate("text => explorerView.visible(text)", text) == visible(text)


def test_a_long_name_in_a_filter_does_not_widen_the_page(make_run: Any, tmp_path: Path, explore: Explore) -> None:
    runs = [make_run(f"{letter} " + "W" * 900, n=2, tiers=("T",), folder=letter) for letter in "ab"]
    page = explore(report(runs, tmp_path / "report", samples=True).parent)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert [text[:2] for text in page.locator("#by-run option").all_inner_texts()] == ["a ", "b "]


def test_hostile_static_pages_hold(hostile: Path, visit: Callable[..., Any]) -> None:
    for path in sorted((hostile / "samples" / "pages").iterdir()):
        page = visit(path, root=hostile, viewport={"width": 390, "height": 800})
        assert page.locator("article script, article img[src=x]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert "\u202e" not in page.evaluate("document.body.textContent")


def test_no_page_of_a_hostile_report_runs_or_loads_anything_or_grows_beyond_a_phone(hostile: Path, visit: Callable[..., Any]) -> None:
    assert {"index.html", "models", "pairs", links.SAMPLES} <= set(kinds(hostile))
    for kind, path in kinds(hostile).items():
        page = visit(path, root=hostile, viewport={"width": 390, "height": 800})
        assert page.locator("img[src=x], [onmouseover]").count() == 0, kind
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, kind
        assert "\u202e" not in page.evaluate("document.body.textContent"), kind
    assert max(path.stat().st_size for path in hostile.rglob("*") if path.is_file()) < 20 * 2**20


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_missing_or_foreign_data_file_is_one_sentence(
    real: SimpleNamespace, new_page: Callable[..., Any], tmp_path: Path, damage: str
) -> None:
    import shutil

    shutil.copytree(real.folder / "samples", tmp_path / "samples")
    target = tmp_path / "samples" / "data" / "s0.js"
    if damage == "missing":
        target.unlink()
    else:
        target.write_text('"nothing";')
    page = new_page()
    page.goto((tmp_path / "samples" / "index.html").as_uri())
    page.wait_for_selector("#failure:not([hidden])")
    assert "data/s0.js" in page.locator("#failure").inner_text()
    page.close()


# ---------------------------------------------------------------- accessibility


def violations(page: Any, axe: str, only: Sequence[str] = ()) -> list[str]:
    """What axe-core finds on a page, of all its rules or of some only."""
    page.evaluate(f"{axe}; undefined")  # a script tag would be refused by the page's policy
    # It would fetch style sheets, which the policy refuses, and describe every element that is right.
    options = {"preload": False, "resultTypes": ["violations"]} | ({"runOnly": list(only)} if only else {})
    found = page.evaluate(
        f"axe.run({json.dumps(options)}).then((result) => result.violations.map((one) => [one.id, one.nodes.map((node) => node.html)]))"
    )
    return [f"{rule}: {nodes[:3]}" for rule, nodes in found]


def kinds(folder: Path) -> dict[str, Path]:
    """A page of each kind that a report has, by its folder and what it is."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.html")):
        place = path.relative_to(folder).as_posix()
        name = place if "/" not in place or place == links.SAMPLES or place.endswith("/index.html") else place.rpartition("/")[0]
        found.setdefault(name, path)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_kind_of_page_has_a_violation_of_axe(real: SimpleNamespace, visit: Callable[..., Any], axe: str, scheme: str) -> None:
    """The two schemes differ in colours only, so the dark one is tried by the rules that look at colours."""
    wrong = {}
    for kind, path in kinds(real.folder).items():
        page = visit(path, root=real.folder, color_scheme=scheme)
        if kind == links.SAMPLES:
            opened(page)
        if found := violations(page, axe, only=() if scheme == "light" else ("color-contrast", "link-in-text-block")):
            wrong[kind] = found
    assert wrong == {}

"""Dialogues as an arm asked them, in Chromium from disk: in the explorer, beside the run, and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Explore = Callable[..., Any]


@pytest.mark.parametrize("arm, tier, pictures", [("blind", "VV", [1, 0]), ("irrelevant", "VT", [1, 1]), ("pixels", "TT", [0, 1])])
def test_a_dialogue_is_shown_as_the_arm_asked_it(real: SimpleNamespace, explore: Explore, arm: str, tier: str, pictures: list[int]) -> None:
    page = explore(real.folder, f"#run=wings&arm={arm}&tier={tier}")
    turns = page.locator(".chat > li").all()
    assert [turn.locator(":scope > .asked img").count() for turn in turns] == pictures
    target = real.bench.questions[next(one.target for one in real.bench.dialogues if one.tier == tier)]
    words = turns[-1].locator(":scope > .asked").inner_text().strip()
    assert words == ("" if arm == "pixels" else target.question)
    assert [turn.locator(".badge").all_inner_texts() for turn in turns] == [[], [arm]]
    page.get_by_text("As the benchmark asks it").click()
    plain = turns[-1].locator("details .asked")
    assert plain.inner_text().strip() == target.question and plain.locator("img").count() == len(target.images)
    page.wait_for_function("() => [...document.querySelectorAll('.chat > li > .asked img')].every((image) => image.naturalWidth > 0)")


def test_an_arm_beside_its_run_is_folded(real: SimpleNamespace, explore: Explore) -> None:
    page = explore(real.folder, "#run=wings&with=wings~irrelevant&tier=VT")
    turn = page.locator(".chat > li").last
    assert turn.locator(":scope > .asked img").count() == 0
    page.get_by_text("As wings (irrelevant) was asked it").click()
    assert turn.locator("details .asked img").count() == 1


def test_without_javascript_a_sentence_and_the_message_tell_what_an_arm_changed(real: SimpleNamespace, visit: Callable[..., Any]) -> None:
    place = next(i for i, one in enumerate(real.bench.dialogues) if one.tier == "VT")
    page = visit(real.folder / "samples" / "pages" / f"s0-{place // 50 + 1}.html", java_script_enabled=False)
    article = page.locator("article").nth(place % 50)
    summary = article.locator("summary").filter(has_text="irrelevant")
    assert "An image of another question is the first part" in summary.inner_text()
    summary.click()
    changed = article.locator("details[open] .asked")
    assert changed.locator("img").is_visible()
    assert changed.inner_text().strip() == real.bench.questions[real.bench.dialogues[place].target].question

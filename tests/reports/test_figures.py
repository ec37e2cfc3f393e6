"""The curves are drawn at their numbers, with the scores' own intervals, in SVG that a strict page may hold."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.iit.columns import Turns
from iit_bench.storage.runs import load_run
from reports.figures import Curve, Point, curve_figure, swatches
from reports.iit.curves import answered_by_tier, curve_points

CURVES = [
    Curve(0, (Point(0.0, 0.9, 0.85, 0.95), Point(0.5, 0.6, 0.5, 0.7), Point(1.0, 0.2, 0.1, 0.3))),
    Curve(9, (Point(0.5, 0.4, 0.3, 0.5),)),
    Curve(3, ()),
]


def figure() -> ET.Element:
    return ET.fromstring(curve_figure(CURVES, [(0.0, 0.25), (1.0, 0.5)], key="k", description="said aloud"))


def markers(root: ET.Element, colour: int) -> list[tuple[float, float]]:
    uses = [use for use in root.iter("use") if use.get("fill") == f"var(--series-{colour})" and use.get("fill-opacity") is None]
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in uses]  # bands are translucent, markers are not


def test_markers_stand_at_their_values_on_the_axis() -> None:
    root = figure()
    ticks = {text.text: float(text.get("y", "")) for text in root.iter("text") if text.get("text-anchor") == "end"}
    per_point = (ticks["0"] - ticks["100%"]) / 100
    heights = [y for _, y in markers(root, 0)]
    assert len(heights) == 3
    assert heights[1] - heights[0] == pytest.approx(30 * per_point, abs=0.01)
    assert heights[2] - heights[1] == pytest.approx(40 * per_point, abs=0.01)
    assert markers(root, 9 % 8)[0][1] - heights[1] == pytest.approx(20 * per_point, abs=0.01)


@pytest.mark.slow
def test_svg_has_neither_style_nor_script_nor_address_nor_date() -> None:
    for draw in (lambda: curve_figure(CURVES, [(0.0, 0.25)], key="k", description="d"), lambda: swatches(20)):
        assert not re.search(r"style|script|http|metadata|date|#0102", draw(), re.IGNORECASE)
        assert draw() == draw()
    assert figure().get("role") == "img" and figure().get("aria-label") == "said aloud"


def test_figures_ignore_the_users_matplotlib_settings() -> None:
    from matplotlib import rc_context, rcParams

    plain = curve_figure(CURVES, [], key="k", description="d")
    with rc_context({"axes.grid": True, "font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert curve_figure(CURVES, [], key="k", description="d") == plain
        assert rcParams["font.size"] == 30


def test_neighbouring_styles_differ_in_colour_dash_and_marker() -> None:
    symbols = list(ET.fromstring(swatches(16)).findall("symbol"))
    looks = []
    for symbol in symbols:
        line = next(path for path in symbol.iter("path") if (path.get("stroke") or "").startswith("var(--series"))
        marker = next(path.get("d") for path in symbol.iter("path") if path.get("id"))
        looks.append((line.get("stroke"), line.get("stroke-dasharray"), marker))
    assert len(set(looks)) == 16
    for one, other in itertools.pairwise(looks):
        assert all(a != b for a, b in zip(one, other, strict=True))


def test_a_point_is_the_score_over_the_tiers_of_its_share(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run("model", 0.7, tiers=("T", "TT", "TTT", "TTV", "V")))
    answered = answered_by_tier(Turns.of_run(run))
    text, third, visual = curve_points(answered, ("V", "TTT", "T", "TTV", "TT"))
    score, single = run.results.t_score["acc"], {tier.tier: tier.acc for tier in run.results.tiers}
    assert (text.share, text.value, text.low, text.high) == (0.0, score.value, score.low, score.high)
    for point, tier in ((third, "TTV"), (visual, "V")):
        assert (point.value, point.low, point.high) == (single[tier].value, single[tier].low, single[tier].high)


def test_a_share_with_a_missing_tier_has_no_point(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run("model", 0.7, tiers=("T", "V")))
    assert [point.share for point in curve_points(answered_by_tier(Turns.of_run(run)), ("T", "TT", "V"))] == [1.0]

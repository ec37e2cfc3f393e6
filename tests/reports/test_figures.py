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
from reports.figures import Plot, drawable, svg, swatches
from reports.iit.curves import answered_by_tier, curve_points
from reports.plots import Curve, Dot, Point, curves_plot, dots_plot, spread

HOSTILE = "<script>alert(1)</script>"
CURVES = [
    Curve(0, (Point(0.0, 0.9, 0.85, 0.95), Point(0.5, 0.6, 0.5, 0.7), Point(1.0, 0.2, 0.1, 0.3)), HOSTILE),
    Curve(9, (Point(0.5, 0.4, 0.3, 0.5),), "$x^2$"),
    Curve(3, ()),
]


def figure() -> ET.Element:
    return ET.fromstring(svg(curves(CURVES)))


def curves(lines: list[Curve], description: str = "said aloud") -> Plot:
    return curves_plot(lines, [(0.0, 0.25), (1.0, 0.5)], key="k", description=description)


def markers(root: ET.Element, colour: int) -> list[tuple[float, float]]:
    uses = [use for use in root.iter("use") if use.get("fill") == f"var(--series-{colour})" and use.get("fill-opacity") is None]
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in uses]  # bands are translucent, markers are not


def test_markers_stand_at_their_values_on_the_axis() -> None:
    root = figure()
    ticks = {text.text: float(text.get("y", "")) for text in root.iter("text") if text.get("text-anchor") == "end"}
    per_point = (ticks["20"] - ticks["100%"]) / 80
    heights = [y for _, y in markers(root, 0)]
    assert len(heights) == 3
    assert heights[1] - heights[0] == pytest.approx(30 * per_point, abs=0.01)
    assert heights[2] - heights[1] == pytest.approx(40 * per_point, abs=0.01)
    assert markers(root, 9 % 8)[0][1] - heights[1] == pytest.approx(20 * per_point, abs=0.01)


@pytest.mark.slow
def test_svg_has_neither_style_nor_script_nor_address_nor_date() -> None:
    plain = [Curve(curve.style, curve.points, "a model") for curve in CURVES]
    for draw in (lambda: svg(curves(plain)), lambda: swatches(20)):
        assert not re.search(r"style|script|http|metadata|date|#0102", draw(), re.IGNORECASE)
        assert draw() == draw()
    assert figure().get("role") == "img" and figure().get("aria-label") == "said aloud"


def texts(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter() if text.tag.endswith("text")]


def test_every_line_has_its_name_at_its_end_and_no_formula_or_markup_is_read() -> None:
    root = figure()
    assert {HOSTILE, "$x^2$", "chance"} <= set(texts(root))
    assert not [element for element in root.iter() if "script" in element.tag]
    at = {text.text: (float(text.get("x", "")), float(text.get("y", ""))) for text in root.iter("text")}
    last = markers(root, 0)[-1]
    assert at[HOSTILE][0] > last[0] and abs(at[HOSTILE][1] - last[1]) < 12


def test_names_in_figures_are_one_short_line_with_hidden_characters_spelt_out() -> None:
    root = ET.fromstring(svg(curves([Curve(0, CURVES[0].points, "a\nb\u202e\x00" + "c" * 1_000_000)])))
    name = next(text for text in texts(root) if text.startswith("a b"))
    assert name.startswith("a b⟨U+202E⟩⟨U+0000⟩c") and name.endswith("…") and len(name) < 40


def test_characters_that_the_font_of_pictures_lacks_are_named() -> None:
    assert drawable("é模$") == "é⟨U+6A21⟩$"


def test_labels_are_apart_near_their_values_and_within_the_figure() -> None:
    places = spread([0.99, 0.98, 0.2, 0.985, 1.0], 0.05, 0.0, 1.0)
    ranked = sorted(places)
    assert all(b - a >= 0.05 - 1e-12 for a, b in itertools.pairwise(ranked)) and ranked[0] >= 0 and ranked[-1] <= 1
    assert sorted(range(5), key=lambda i: places[i]) == [2, 1, 3, 0, 4]
    assert places[2] == 0.2


def test_dots_are_at_their_values_with_their_intervals() -> None:
    dots = [Dot(label="a", value=0.1, low=0.05, high=0.2, style=0), Dot(label="b", value=-0.1, low=None, high=None, style=0)]
    root = ET.fromstring(svg(dots_plot(dots, key="k", description="d", axis="points")))
    (x_a, y_a), (x_b, y_b) = markers(root, 0)
    ticks = {text.text: float(text.get("x", "")) for text in root.iter("text") if text.get("text-anchor") == "middle"}
    per_point = (ticks["10"] - ticks["0"]) / 10
    assert (x_a, x_b) == pytest.approx((ticks["0"] + 10 * per_point, ticks["0"] - 10 * per_point), abs=0.01)
    assert y_a < y_b and {"+10.0", "−10.0", "a", "b"} <= set(texts(root))


def test_figures_ignore_the_users_matplotlib_settings() -> None:
    from matplotlib import rc_context, rcParams

    plain = svg(curves(CURVES))
    with rc_context({"axes.grid": True, "font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert svg(curves(CURVES)) == plain
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

"""The page of the experiment, over made-up cells with known effects (tests/made_cells.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluators.lab.answers import load
from evaluators.lab.findings import findings
from iit_bench.lab.cells import rate_word
from reports.lab import plots
from reports.lab.page import lab_page
from tests import made_cells

pytestmark = pytest.mark.slow  # a page with all its figures as files


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = made_cells.write(tmp_path_factory.mktemp("cells"), n=60, peak_memory=912_000_000)
    return lab_page(folder, tmp_path_factory.mktemp("page"), planned=["wings-2e-4-0", "lora-2e-4-0"]).read_text(encoding="utf-8")


def test_verdicts_are_in_the_headline_with_their_numbers(page: str) -> None:
    first = page.partition('class="headline"')[2].partition("</p>")[0]
    assert re.search(
        r"Text is kept \(text alone, at the same rate of the LLM, mean over rates 2e-5, 2e-4, 1e-3\): held\. Wings − full tuning \+\d",
        first,
    )


def test_every_section_is_there_and_missing_cells_are_named(page: str) -> None:
    for key in (
        "claims",
        "map",
        "frontier",
        "sources",
        "tiers",
        "attention",
        "equal",
        "against-full",
        "control",
        "frozen",
        "ablations",
        "path",
        "cost",
    ):
        assert f'id="{key}-heading"' in page, key
    assert "912 MB" in page.partition('id="cost-heading"')[2]
    assert "Missing cells (1): lora-2e-4-0." in page


def test_a_few_cells_give_a_page_that_says_so(tmp_path: Path) -> None:
    made_cells.write(tmp_path / "cells", {"full": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, seeds=(0,), n=10, attention=None)
    page = lab_page(tmp_path / "cells", tmp_path / "page").read_text(encoding="utf-8")
    assert "No claim can be told from these cells yet." in page and "cannot be told" in page and "held." not in page.partition("<main")[0]


def test_the_same_cells_give_the_same_bytes(tmp_path: Path) -> None:
    cells = made_cells.write(tmp_path / "cells", {"full": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, seeds=(0,), n=10)
    one, two = (lab_page(cells, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one == two


def test_charts_show_the_figures_of_methods_and_controls(tmp_path: Path) -> None:
    found = findings(load(made_cells.write(tmp_path, n=20)))
    arms = {(found.grid.label(arm.key[0]), rate_word(arm.key[1])): arm for arm in found.arms}
    vqa = next(plot for plot, _ in plots.by_rate(found) if plot.key == "rates-vqa")
    assert {row[0] for row in vqa.rows} == {"full tuning", "Wings", "text-only control"}  # no ablation
    for name, rate, value, low, high in vqa.rows:
        one = arms[str(name), str(rate)].vqa.figure
        assert (value, low, high) == pytest.approx((100 * one.value, 100 * one.low, 100 * one.high))
    tiers = plots.by_tier(found)
    assert [plot.key for plot, _ in tiers] == ["tiers-2e-5", "tiers-2e-4", "tiers-1e-3"]
    assert {row[1] for row in tiers[0][0].rows} == set(made_cells.TIERS)
    scatter, _ = plots.shift(found)
    assert len(scatter.rows) == 30 and {row[0] for row in scatter.rows} == {"full tuning", "Wings", "text-only control", "ablations"}

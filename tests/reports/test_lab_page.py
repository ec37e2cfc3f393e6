"""The page of the experiment, over made-up cells with known effects (tests/made_cells.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports.lab.page import lab_page
from tests import made_cells


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = made_cells.write(tmp_path_factory.mktemp("cells"), n=60)
    return lab_page(folder, tmp_path_factory.mktemp("page"), planned=["wings-2e-4-0", "lora-2e-4-0"]).read_text(encoding="utf-8")


def test_verdicts_are_in_the_headline_with_their_numbers(page: str) -> None:
    first = page.partition('class="headline"')[2].partition("</p>")[0]
    assert re.search(
        r"Text is kept \(text alone, at the same rate of the LLM, mean over rates 2e-5, 2e-4, 1e-3\): held\. Wings − full tuning \+\d",
        first,
    )


def test_every_section_is_there_and_missing_cells_are_named(page: str) -> None:
    for key in ("claims", "frontier", "tiers", "attention", "equal", "against-full", "control", "ablations", "cost"):
        assert f'id="{key}-heading"' in page, key
    assert "Missing cells (1): lora-2e-4-0." in page


def test_a_few_cells_give_a_page_that_says_so(tmp_path: Path) -> None:
    made_cells.write(tmp_path / "cells", {"full": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, seeds=(0,), n=10, attention=None)
    page = lab_page(tmp_path / "cells", tmp_path / "page").read_text(encoding="utf-8")
    assert "No claim can be told from these cells yet." in page and "cannot be told" in page and "held." not in page.partition("<main")[0]


def test_the_same_cells_give_the_same_bytes(tmp_path: Path) -> None:
    cells = made_cells.write(tmp_path / "cells", {"full": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, seeds=(0,), n=10)
    one, two = (lab_page(cells, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one == two

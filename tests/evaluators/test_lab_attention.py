"""Attention by layer, and how what was lost goes with the attention shift, over made-up cells (tests/made_cells.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evaluators.lab.answers import load
from evaluators.lab.findings import findings
from reports.lab import plots
from tests import made_cells


@pytest.mark.oracle
def test_attention_by_layer_is_a_mean_over_seeds_with_its_interval(tmp_path: Path) -> None:
    """Seeds 0, 1, 2 look 2, 3, 4 times as much at text after the image (made_cells); the interval is scipy's."""
    found = findings(load(made_cells.write(tmp_path, n=20)))
    one = next(one for one in found.shift.layers if one.key == ("wings", 1e-3))
    assert one.seeds == 3 and one.layers == (0, 1, 2, 3) and len(found.shift.layers) == 10
    assert one.before == pytest.approx((0.01,) * 4) and one.after == pytest.approx((0.03,) * 4)
    low, high = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem([2, 3, 4]))
    assert [(ratio.value, ratio.low, ratio.high) for ratio in one.ratio] == [pytest.approx((3.0, low, high))] * 4
    ((plot, caption),) = plots.by_layer(found)
    assert len(plot.rows) == 3 * 4 and caption.endswith("at the rate 1e-3")  # methods and control, no ablation


def test_one_seed_has_no_interval_by_layer(tmp_path: Path) -> None:
    found = findings(load(made_cells.write(tmp_path, n=20, seeds=(0,))))
    assert all(ratio.value == pytest.approx(2.0) and ratio.low is None for one in found.shift.layers for ratio in one.ratio)


def test_both_kinds_of_text_are_set_beside_the_attention_shift(tmp_path: Path) -> None:
    found = findings(load(made_cells.write(tmp_path)))
    text, after = found.shift.follows
    assert (text.measure.key, after.measure.key) == ("text", "after")
    x = [point.shift for point in found.shift.points]
    for one, lost in ((text, [point.text for point in found.shift.points]), (after, [point.after for point in found.shift.points])):
        assert one.pearson.value == pytest.approx(np.corrcoef(x, np.array(lost, dtype=float))[0, 1])

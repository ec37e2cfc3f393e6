"""Verdicts on the paper's claims, and what is reported of a folder of cells, over made-up cells with known effects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from evaluators.lab.answers import load
from evaluators.lab.attention import _within
from evaluators.lab.claims import MARGIN, verdict
from evaluators.lab.effects import Effect
from evaluators.lab.findings import Findings, findings
from iit_bench.errors import UserError
from iit_bench.lab import cells
from iit_bench.lab.cells import Cell
from iit_bench.types import Figure
from tests import made_cells


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings(load(made_cells.write(tmp_path_factory.mktemp("cells"))))


def test_known_effects_are_found(found: Findings) -> None:
    """Wings keeps 10 points more text by itself, loses 10 more after an image, and sees 5 points less (made_cells.KNOWN)."""
    same = {test.measure.key: test for test in found.claims if "mean over rates" in test.how}
    assert same["text"].verdict == "held" and same["text"].effect.figure.value == pytest.approx(0.10, abs=0.03)
    assert same["after"].verdict == "did not hold" and same["after"].opposite
    assert same["vqa"].verdict == "did not hold" and same["vqa"].effect.figure.value == pytest.approx(-0.05, abs=0.03)
    assert all(test.effect.p_holm is None or test.effect.p is None or test.effect.p_holm >= test.effect.p for test in found.claims)


def test_every_arm_has_its_figures_against_the_base(found: Findings) -> None:
    arms = {arm.key: arm for arm in found.arms}
    assert [arm.key[0] for arm in found.arms] == ["full"] * 3 + ["wings"] * 3 + ["control"] * 3 + ["wings-visual"]
    assert arms["full", 1e-3].text.figure.value == pytest.approx(0.55 - 0.9, abs=0.06)
    assert set(arms["full", 1e-3].tiers) == set(made_cells.TIERS) and arms["full", 1e-3].seeds == 3


def test_controls_and_ablations_stand_beside_the_method_they_are_of(found: Findings) -> None:
    assert {(one.over, one.against) for one in found.against_control} == {("full", "control"), ("wings", "control")}
    assert [(one.over, one.against, one.rate) for one in found.ablations] == [("wings-visual", "wings", 2e-4)]
    assert {one.rate for one in found.against_full} == {2e-5, 2e-4, 1e-3}


def test_shift_follows_forgetting_in_the_made_up_cells(found: Findings) -> None:
    text = found.shift.follows[0]
    assert len(found.shift.points) == 30 and (text.pearson.value or 0) > 0.9 and (text.within.value or 0) > 0.9


@pytest.mark.oracle
def test_correlation_within_methods_is_the_partial_correlation_given_the_method() -> None:
    rng = np.random.default_rng(0)
    groups = ["a"] * 8 + ["b"] * 6 + ["c"] * 5
    x = rng.normal(size=19) + np.array([{"a": 0, "b": 3, "c": -2}[one] for one in groups])
    y = 0.5 * x + rng.normal(size=19)
    dummies = np.array([[one == name for name in "abc"] for one in groups], dtype=float)
    rest = [values - dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0] for values in (x, y)]
    figure = _within(x.tolist(), y.tolist(), groups)
    assert figure.value == pytest.approx(np.corrcoef(*rest)[0, 1])
    z = np.arctanh(figure.value)
    assert figure.low == pytest.approx(np.tanh(z - 1.959964 / 14**0.5))  # 19 cells, two further means, less 3


def test_costs_are_relative_to_full_tuning_step_by_step(found: Findings) -> None:
    costs = {one.method: one for one in found.costs}
    assert costs["wings"].relative == pytest.approx(1.5) and costs["full"].relative == 1 and costs["wings"].cells == 9


def judged(value: float, low: float, high: float, p: float, seeds: int = 3) -> str:
    return verdict(Effect(figure=Figure(value, low=low, high=high, n=100), seeds=seeds, p=p, p_holm=p))


def test_the_rule_of_verdicts() -> None:
    assert judged(0.05, 0.01, 0.09, 0.01) == "held"
    assert judged(0.05, 0.001, 0.099, 0.06) == "cannot be told"  # not after Holm
    assert judged(0.0, -0.01, MARGIN - 0.001, 0.9) == "did not hold"
    assert judged(-0.05, -0.09, -0.01, 0.01) == "did not hold"
    assert judged(0.0, -0.05, 0.05, 0.9) == "cannot be told"
    assert judged(0.05, 0.01, 0.09, 0.01, seeds=1) == "cannot be told"
    assert verdict(Effect(figure=Figure(None), seeds=0)) == "cannot be told"


def test_a_subset_of_cells_gives_a_report_of_the_subset(tmp_path: Path) -> None:
    made_cells.write(tmp_path, {"wings": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, seeds=(0, 1), n=20)
    found = findings(load(tmp_path))
    assert len(found.arms) == 1 and {test.verdict for test in found.claims} == {"cannot be told"}
    assert all(test.effect.figure.note for test in found.claims)


def test_failed_and_missing_cells_are_named(tmp_path: Path) -> None:
    made_cells.write(tmp_path, {"wings": {2e-4: made_cells.levels(0.9, 0.8, 0.6), 1e-3: made_cells.levels(0.9, 0.8, 0.6)}}, n=10)
    result = cells.read_cell(tmp_path / "wings-1e-3-2.json")
    (tmp_path / "wings-1e-3-2.parquet").unlink()
    cells.write(tmp_path, dataclasses.replace(result, state="failed", reason="the loss is not finite at step 3", items_sha256=""))
    (tmp_path / "wings-2e-4-1.json").unlink()
    found = findings(load(tmp_path))
    assert [one.cell.name for one in found.failed] == ["wings-1e-3-2"] and found.absent == ("wings-2e-4-1",)
    assert findings(load(tmp_path), planned=["wings-2e-4-0", "lora-2e-4-0"]).absent == ("lora-2e-4-0",)


def test_cells_of_two_benchmarks_are_refused(tmp_path: Path) -> None:
    made_cells.write(tmp_path, {"wings": {2e-4: made_cells.levels(0.9, 0.8, 0.6)}}, n=10)
    result = cells.read_cell(tmp_path / "wings-2e-4-1.json")
    other = dataclasses.replace(
        result, cell=Cell(method="full", label="", role="main", rate=1e-3, seed=0), inputs={**result.inputs, "benchmark": "d"}
    )
    cells.write(tmp_path, other)
    with pytest.raises(UserError, match="were asked another benchmark"):
        load(tmp_path)


def test_a_folder_with_failed_cells_only_is_refused(tmp_path: Path) -> None:
    made_cells.write(tmp_path, {}, n=5)
    result = cells.read_cell(tmp_path / "base-0-0.json")
    (tmp_path / "base-0-0.parquet").unlink()
    cells.write(tmp_path, dataclasses.replace(result, state="failed", reason="no"))
    with pytest.raises(UserError, match="no cell that is done"):
        load(tmp_path)

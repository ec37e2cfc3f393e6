"""VQA by source (evaluators/lab/sources.py), of cells that are kept and of made-up ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluators.lab.answers import VQA, load
from evaluators.lab.effects import accuracy
from evaluators.lab.findings import findings
from evaluators.lab.sources import priors
from tests import made_cells

LAB = Path(__file__).parents[2] / "docs" / "lab"


@pytest.mark.parametrize("folder", [LAB, LAB / "smol"])
def test_sources_are_the_parts_of_tier_v_as_the_cells_counted_them(folder: Path) -> None:
    grid = load(folder / "cells")
    found = findings(grid, priors=priors(folder, grid))
    assert set(found.sources.priors) == set(found.sources.targets) and len(found.sources.targets) > 1
    counted = {(one.cell.method, one.cell.rate): one.sources for one in grid.results if one.cell.seed == 0}
    for arm in found.sources.arms:
        whole = accuracy(grid, VQA, arm.key).figure.value
        n = found.sources.targets
        assert whole == pytest.approx(sum(n[name] * (arm.accuracy[name].figure.value or 0) for name in n) / sum(n.values()))
        if len(grid.arms[arm.key].seeds) == 1 and 0 in grid.arms[arm.key].seeds:
            assert {name: one.figure.value for name, one in arm.accuracy.items()} == {
                name: pytest.approx(of.correct / of.n) for name, of in counted[arm.key].items() if of.tier == "V"
            }


def test_the_prior_of_another_benchmark_is_not_shown(tmp_path: Path) -> None:
    grid = load(made_cells.write(tmp_path / "cells", n=20))
    assert priors(tmp_path, grid) == {}
    (tmp_path / "manifest.json").write_bytes((LAB / "manifest.json").read_bytes())
    assert priors(tmp_path, grid) == {}
    own = json.loads((LAB / "manifest.json").read_text())["rows_sha256"]
    asked = made_cells.write(tmp_path / "asked" / "cells", n=20, inputs={"llm": "a" * 64, "tower": "b" * 64, "benchmark": own})
    assert priors(LAB, load(asked))["easyvqa"] == pytest.approx(0.7)

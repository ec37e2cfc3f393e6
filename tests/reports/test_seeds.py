"""One model under several seeds: a row whose figures equal a mean by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports.iit.seeds import lost_over_seeds, score_over_seeds
from reports.leaderboard import report
from tests.reports.conftest import ALL_TIERS, MakeRun


def seeds_of(make_run: MakeRun) -> list[Path]:
    make_run("base", 0.95)
    return [make_run(f"tuned seed-{seed}", skill, base="base") for seed, skill in enumerate((0.75, 0.8, 0.7), start=1)]


def targets(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "predictions.parquet")
    return rows[rows["is_target"]]


@pytest.mark.oracle
def test_means_and_between_seed_spread_equal_a_computation_with_pandas(make_run: MakeRun, tmp_path: Path) -> None:
    from evaluators.iit.columns import Turns

    runs = seeds_of(make_run)
    turns = [Turns.of_run(load_run(run)) for run in runs]
    found = score_over_seeds(turns, ALL_TIERS)
    per_seed = [targets(run).assign(right=lambda r: r["outcome"] == "correct").groupby("tier")["right"].mean().mean() for run in runs]
    assert found is not None and found.per_seed == pytest.approx(per_seed) and found.figure.value == pytest.approx(np.mean(per_seed))
    assert found.between <= np.std(per_seed, ddof=1) + 1e-12 and found.figure.low < found.figure.value < found.figure.high
    lost = lost_over_seeds(turns, Turns.of_run(load_run(tmp_path / "base")))
    base = targets(tmp_path / "base").set_index("dialogue")["outcome"].eq("correct")
    for run, value in zip(runs, lost.per_seed, strict=True):
        mine = targets(run).set_index("dialogue")
        mine = mine[mine["tier"].str.endswith("T")]
        assert value == pytest.approx(base[mine.index].mean() - mine["outcome"].eq("correct").mean())
    assert lost.p is not None and lost.p < 0.05 and lost.figure.low > 0


@pytest.mark.slow
def test_page_has_a_row_for_the_model_and_its_runs_keep_theirs(make_run: MakeRun, tmp_path: Path) -> None:
    runs = seeds_of(make_run)
    out = tmp_path / "report"
    command = ["report", *map(str, (tmp_path / "base", *runs)), "--seeds", "tuned seed-1,tuned seed-2,tuned-seed-3", "--out", str(out)]
    assert main(command) == 0
    page = (out / "index.html").read_text()
    assert "tuned (3 seeds)" in page and "Under several seeds" in page and "between seeds" in page and page.count("tuned seed-2") > 1


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("tuned seed-1", "two runs or more"),
        ("tuned seed-1,tuned seed-1", "two runs or more, each once"),
        ("tuned seed-1,nobody", "names 'nobody', which is no model of the page; its models are"),
        ("tuned seed-1,letters", "they differ in style"),
    ],
)
def test_sets_that_make_no_sense_are_refused(make_run: MakeRun, tmp_path: Path, seeds: str, message: str) -> None:
    runs = [*seeds_of(make_run), make_run("letters", style="letters")]
    with pytest.raises(UserError, match=message):
        report(runs, tmp_path / "report", seeds=[seeds])

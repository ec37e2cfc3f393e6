"""One model under several seeds: a row whose figures equal a mean by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports.entries import Entry
from reports.iit.seed_runs import runs_table, same_weights
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
    for words in ("tuned (3 seeds)", "Under several seeds", "between seeds", "assets/tuned seed-3"):
        assert words in page
    assert page.count("tuned seed-2") > 1


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("tuned seed-1", "two runs or more"),
        ("tuned seed-1,tuned seed-1", "two runs or more, each once"),
        ("tuned seed-1,nobody", "names 'nobody', which is no model of the page; its models are"),
        ("tuned seed-1,letters", "they differ in style"),
        ("tuned seed-1,larger", r"no seeds of one recipe: they differ in number of weights"),
        ("tuned seed-1,text", "no seeds of one recipe: they differ in takes images"),
        ("tuned seed-1,short", r"no seeds of one recipe: they differ in tiers \(.*T, V.*\)"),
        ("random,majority", r"differ in name of a model without weights \(random and majority\)"),
    ],
)
def test_sets_that_make_no_sense_are_refused(make_run: MakeRun, tmp_path: Path, seeds: str, message: str) -> None:
    runs = [*seeds_of(make_run), make_run("letters", style="letters"), make_run("text", text_only=True)]
    runs += [make_run("larger", model={"parameters": 9, "details": {"architecture": "Other"}}), make_run("short", tiers=("T", "V"))]
    runs += [make_run(name, model={"parameters": 0}) for name in ("random", "majority")]
    with pytest.raises(UserError, match=message):
        report(runs, tmp_path / "report", seeds=[seeds])


def entries_of(runs: list[Path]) -> list[Entry]:
    return [Entry(load_run(run), run.name, number) for number, run in enumerate(runs)]


def test_checkpoints_and_all_that_differs_beside_the_seed_are_listed(make_run: MakeRun) -> None:
    one = make_run("a", seed=1, threads=2, model={"settings": {"quantization": "int8"}})
    other = make_run("b", seed=2, threads=2, model={"dtype": "bfloat16"}, versions={"torch": "2.14.1"})
    rows = runs_table("key", "model", entries_of([one, other])).rows
    first, second = ({cell.text: cell.lines for cell in row[:2]} for row in rows)
    assert first["assets/a"] == (load_run(one).run["model"]["checkpoint_sha256"][:12],) and "assets/b" in second
    assert [row[2].text for row in rows] == ["1", "2"]
    told = [dict(line.split(": ", 1) for line in (row[3].text, *row[3].lines)) for row in rows]
    assert told[0]["model.dtype"] == "float32" and told[1]["model.dtype"] == "bfloat16"
    assert told[0]["model.settings.quantization"] == "int8" and told[1]["model.settings.quantization"] == "not recorded"
    assert told[0]["versions.torch"] == "2.13.0" and told[1]["versions.torch"] == "2.14.1" and "threads" not in told[0]


@pytest.mark.parametrize(("seeds", "words"), [((1, 2), "only the seed of the run differs"), ((1, 1), "not even the seeds")])
def test_runs_of_one_checkpoint_are_no_seeds_of_training(make_run: MakeRun, seeds: tuple[int, int], words: str) -> None:
    runs = [make_run(name, seed=seed, model={"checkpoint_sha256": "a" * 64}) for name, seed in zip("ab", seeds, strict=True)]
    sentence = same_weights(entries_of(runs))
    assert "a, b" in sentence and words in sentence
    assert same_weights(entries_of([runs[0], make_run("c")])) == ""

"""Every figure of results.json equals its recomputation from the tables, by code that imports nothing of the project."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import operator
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluators.iit.comparison import compare
from evaluators.iit.evaluate import evaluate
from evaluators.iit.forgetting import blind_gap
from evaluators.runs.options import RunOptions
from iit_bench.storage.runs import load_run
from tests.recompute_figures import Check as Recomputed
from tests.recompute_figures import check_paired, check_run, main, paired_tiers, predictions
from tests.reports.conftest import suite_run_maker

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of baselines, whose histories serve several targets: against a base, with own history in letters, of some tiers."""
    from builders.build import BuildOptions, build

    folder = tmp_path_factory.mktemp("recomputed")
    bench = build(BuildOptions(out=folder / "bench", preset="lab", size=24))
    asked: dict[str, dict[str, Any]] = {
        "base": {"model": "majority"},
        "against": {"model": "random", "base": folder / "base"},
        "decided": {"model": "random", "seed": 6, "base": folder / "base", "until": "decided", "margin": 0.4},
        "own": {"model": "random", "seed": 3, "history": "own", "style": "letters", "limit": 20},
        "own base": {"model": "random", "seed": 7, "history": "own", "style": "letters", "limit": 20, "base": folder / "own"},
        "some": {"model": "random", "seed": 4, "tiers": ("T", "TV")},
        "text": {"model": "random", "seed": 5, "tiers": ("T", "TT", "TTT")},
    }
    for name, options in asked.items():
        evaluate(RunOptions(bench=bench, out=folder / name, **options), progress=False)
    return {name: folder / name for name in asked}


AT_LEAST = {"decided": 200, "base": 800, "against": 1200, "own": 800, "own base": 1200, "some": 100, "text": 100}


@pytest.mark.parametrize(("name", "at_least"), AT_LEAST.items())
def test_every_figure_of_an_iit_run_equals_its_recomputation(runs: dict[str, Path], name: str, at_least: int) -> None:
    check = check_run(runs[name])
    assert check.off == [] and check.skipped == 0 and check.compared >= at_least


@pytest.mark.parametrize("suite", ["text", "vqa"])
def test_means_of_items_of_a_text_or_vqa_run_equal_their_recomputation(suite: str, tmp_path: Path) -> None:
    check = check_run(suite_run_maker(tmp_path)(suite, "model", {"one": 0.7, "other": 1.0}, failed=2))
    assert check.off == [] and check.compared == 12 and check.skipped == 0


def test_recomputed_runs_have_what_is_to_be_recomputed(runs: dict[str, Path]) -> None:
    against, own, some = (load_run(runs[name]).results for name in ("against", "own", "some"))
    assert {one.test for one in against.interleaving} >= {"two-way t"} and against.forgetting is not None and own.positions
    assert some.subset_tiers == ("T", "TV") and some.iit["acc"].value is None


PLANTED: tuple[tuple[Any, ...], ...] = (
    ("iit", "acc", "low"),
    ("t_score", "acc_corrected", "high"),
    ("tiers", 3, "acc_norm", "value"),
    ("tiers", 2, "acc_strict", "se"),
    ("tiers", 0, "chance"),
    ("breakdown", 5, "acc", "n"),
    ("interleaving", 4, "p_holm"),
    ("interleaving", 1, "detectable"),
    ("forgetting", "pooled", "difference", "value"),
    ("forgetting", "per_tier", 1, "only_a"),
    ("forgetting", "acc", "low"),
    ("forgetting", "ledger", "parts", 0, "counts", "lost"),
    ("forgetting", "ledger", "parts", 1, "rates", "kept", "low"),
    ("forgetting", "ledger", "parts", 3, "corrected", "never", "high"),
    ("forgetting", "ledger", "parts", 0, "corrected", "lost", "value"),
    ("forgetting", "ledger", "lost", 0, "n"),
)


def test_figures_that_are_off_are_found(runs: dict[str, Path], tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(runs["against"], tmp_path / "against")
    results = json.loads((folder / "results.json").read_text())
    for *where, last in PLANTED:
        part = functools.reduce(operator.getitem, where, results)
        part[last] += 1 if isinstance(part[last], int) else 0.001 * part[last] + 0.0001
    (folder / "results.json").write_text(json.dumps(results))
    assert main([str(folder)]) == 1
    assert f"{len(PLANTED)} off" in capsys.readouterr().out


def test_comparisons_and_the_blind_gap_equal_their_recomputation(runs: dict[str, Path]) -> None:
    sides = [load_run(runs[name]).predictions for name in ("against", "base")]
    a, b = (predictions(runs[name], "cloze") for name in ("against", "base"))
    check = Recomputed()
    for ending, results in (("V", blind_gap(*sides, "b")), ("", [one for one in compare(*sides, "b") if not one.over.endswith("*")])):
        own = paired_tiers(a, b, ending)
        for one in results:
            check_paired(check, one.over, dataclasses.asdict(one), own.get(one.over) or own["*"])
    assert check.off == [] and check.compared > 200


def test_a_folder_of_an_earlier_version_is_not_recomputed_here(runs: dict[str, Path], tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(runs["base"], tmp_path / "base")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {"version": 2}))
    assert main([str(folder)]) == 2 and "version 2" in capsys.readouterr().out


def test_the_recomputation_imports_nothing_of_the_project() -> None:
    rooms = {"builders", "evaluators", "iit_bench", "reports"}
    for path in sorted(Path(__file__).parent.glob("recompute_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not rooms & {module.split(".")[0] for module in imported}

"""Runs with files that no checksum covers are named as unsealed wherever their figures are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.arms.table import as_dict, as_table
from evaluators.compare.planning import PlanOptions, plan
from evaluators.compare.runs import comparisons
from evaluators.explain.explain import explain
from evaluators.explain.table import as_dict as explained_as_dict
from evaluators.explain.table import as_text
from evaluators.runs.marks import unsealed, unsealed_note
from evaluators.runs.reading import load_run
from evaluators.show.show import diff, show
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.runs import Run
from tests.resealed import change


@pytest.fixture
def folders(run: Callable[..., Run], tmp_path: Path) -> tuple[Path, Path]:
    """Two runs; of the second, "old", an earlier version did not record the hashes of its files."""
    whole = run(RandomModel("random", ModelOptions(seed=1))).path
    old = run(RandomModel("random", ModelOptions(seed=2)), out="old").path
    change(old / "run.json", lambda body: body.pop("files"))
    return whole, old


def test_every_print_of_figures_names_them(folders: tuple[Path, Path]) -> None:
    whole, old = folders
    note = "Unsealed: old. These runs, as an earlier iit-bench wrote them, have files that no checksum covers"
    (compared,) = comparisons(whole, old)
    made = plan(PlanOptions(pilot=(whole, old), difference=(0.2,)))
    explained = explain([whole, old])
    texts = [compared.as_table(), made.as_table(), as_text(explained), show(old).as_text(), diff(whole, old).as_text()]
    texts.append(as_table([], "run", unsealed=unsealed([load_run(whole), load_run(old)])))
    for text in texts:
        assert note in " ".join(text.split())
    dicts: list[Any] = [compared.as_dict()["unsealed"], as_dict([], ["old"])["unsealed"], list(made.as_dict()["basis"]["unsealed"])]
    assert dicts == [["old"]] * 3
    assert [one["unsealed"] for one in explained_as_dict(explained)["results"]] == [False, True]
    assert note in show(old).as_dict()["note"] and note in diff(old, whole).as_dict()["note"]


def test_whole_runs_are_not_marked(folders: tuple[Path, Path]) -> None:
    whole, _ = folders
    (compared,) = comparisons(whole, whole)
    assert unsealed([load_run(whole)]) == [] and unsealed_note([]) == ""
    assert not any("Unsealed" in text for text in (compared.as_table(), show(whole).as_text(), diff(whole, whole).as_text()))

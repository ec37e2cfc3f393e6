"""Figures and predictions of a tier that run.json does not name are refused: the files are of two runs, each whole by its seal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluators.iit.columns import Turns
from evaluators.iit.results import summarise
from evaluators.runs.reading import load_run
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run_header, save_finished_header, save_run_header, save_run_outcome
from iit_bench.types import Prediction
from tests.resealed import change
from tests.storage.test_folders import ERROR, predictions
from tests.storage.test_run_files import HEADER


def asked() -> list[Prediction]:
    """One question in tier T, and as history in TV."""
    first = predictions()[0]
    return [first, replace(first, dialogue="TV:a", tier="TV", position=1, history_clusters=("c",))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run of the tiers T and TV, whose model could not be asked V."""
    rows = asked()
    save_run_header(tmp_path, HEADER | {"tiers": ["T", "TV"]})
    save_run_outcome(tmp_path, rows, summarise(rows, {"V": "no images"}, True, ("T", "V", "TV")), [ERROR])
    save_finished_header(tmp_path, load_run_header(tmp_path))
    return tmp_path


def without_figures(body: dict[str, Any]) -> None:
    """results.json as if tier TV had not been run."""
    body["tiers"] = [tier for tier in body["tiers"] if tier["tier"] != "TV"]


def test_tiers_that_were_asked_and_those_that_could_not_be_are_read(folder: Path) -> None:
    run = load_run(folder, "iit")
    assert {tier.tier for tier in run.results.tiers} == {"T", "V", "TV"}
    assert len(Turns.of_run(run)) == len(run.predictions) == len(asked())


def test_figures_of_another_tier_are_refused(folder: Path) -> None:
    change(folder / "run.json", lambda body: body.update(tiers=["T"]))
    with pytest.raises(UserError, match=r"^'results\.json' of run '.*' has tier TV, and its run\.json names T: they are of two runs; put"):
        load_run(folder)


def test_predictions_of_another_tier_are_refused_however_they_are_read(folder: Path) -> None:
    change(folder / "run.json", lambda body: body.update(tiers=["T"]))
    change(folder / "results.json", without_figures)
    for read in (Turns.of_run, lambda run: run.predictions, lambda run: run.prediction_columns(("tier",))):
        with pytest.raises(UserError, match=r"^'predictions\.parquet' of run '.*' has tier TV, and its run\.json names T"):
            read(load_run(folder, "iit"))


def test_a_run_json_without_tiers_contradicts_nothing(folder: Path) -> None:
    change(folder / "run.json", lambda body: body.pop("tiers"))
    assert json.loads((folder / "run.json").read_text()).get("tiers") is None
    assert len(load_run(folder, "iit").predictions) == len(asked())

"""Figures are made of columns: the same from a list of predictions and from a table, in any order, without an object per prediction."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from evaluators.compare.runs import comparisons
from evaluators.iit.columns import Names, Turns
from evaluators.iit.evaluate import evaluate
from evaluators.iit.forgetting import forgetting
from evaluators.iit.results import summarise
from evaluators.runs.options import RunOptions
from iit_bench.storage.runs import IitRun, Run, load_run
from iit_bench.types import OUTCOMES, Prediction
from reports.leaderboard import report


@pytest.fixture(scope="module")
def runs(bench, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    for name in ("random", "majority"):
        evaluate(
            RunOptions(model=name, bench=bench.path, out=root / name, base=None if name == "random" else root / "random"), progress=False
        )
    return [root / "random", root / "majority"]


@pytest.fixture
def run(runs: list[Path]) -> IitRun:
    return load_run(runs[1], "iit")


def words(names: Names) -> list[str]:
    return [names.names[code] for code in names.code]


def rows_of(turns: Turns) -> list[tuple]:
    """Every turn as a tuple of what the columns mean."""
    labels = [turns.history_names[code] for code in turns.histories.code]
    histories = [tuple(labels[a:b]) for a, b in zip(turns.histories.start, turns.histories.start[1:], strict=False)]
    named = [words(getattr(turns, name)) for name in ("dialogue", "tier", "group", "question", "source", "subject", "cluster", "asked")]
    numbers = [getattr(turns, name).tolist() for name in ("position", "is_target", "answer", "n_choices", "acc", "acc_norm", "acc_bytes")]
    outcomes = [OUTCOMES[code] for code in turns.outcome]
    return list(zip(*named, *numbers, outcomes, histories, strict=True))


def test_columns_of_a_table_are_those_of_its_predictions_in_any_order(run: IitRun) -> None:
    shuffled = random.Random(0).sample(run.predictions, len(run.predictions))
    turns = Turns.of_run(run)
    assert rows_of(turns) == rows_of(Turns.of(shuffled)) and len(turns) == len(shuffled) > 80
    expected = sorted(run.predictions, key=lambda p: (p.dialogue, p.position))
    assert words(turns.dialogue) == [p.dialogue for p in expected]
    assert turns.acc.tolist() == [p.outcome == "correct" for p in expected]
    assert turns.acc_norm.tolist() == [p.chosen_norm == p.answer for p in expected]
    assert turns.chance.tolist() == [1 / len(p.choices) for p in expected]


def test_figures_of_columns_are_those_of_predictions(run: IitRun, runs: list[Path]) -> None:
    base = load_run(runs[0], "iit")
    tiers = run.run["benchmark"]["tiers"]
    found = forgetting(Turns.of_run(run), Turns.of_run(base), "random", "random")
    stored = dataclasses.replace(run.results, forgetting=None, advice="")
    assert summarise(Turns.of_run(run), {}, True, tiers) == summarise(run.predictions[::-1], {}, True, tiers) == stored
    assert found == forgetting(run.predictions[::-1], base.predictions, "random", "random")
    assert run.results.forgetting == dataclasses.replace(found, asked_apart=run.results.forgetting.asked_apart)


@pytest.mark.slow
def test_reports_and_comparisons_make_no_object_per_prediction(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "predictions", property(lambda self: pytest.fail("predictions were read as objects")))
    assert report(runs, tmp_path / "report").is_file()
    assert next(comparisons(*runs)).results


def test_a_turn_that_occurs_twice_is_refused(predict) -> None:
    with pytest.raises(ValueError, match="turn 1 of dialogue 'a/TT' occurs twice"):
        Turns.of([predict("TT", "a"), predict("T", "a"), predict("TT", "a")])


def asked(predict, *choices: str) -> Prediction:
    return dataclasses.replace(predict("T", "a"), choices=choices)


def test_choices_are_told_apart_whatever_is_in_them(predict, tmp_path: Path) -> None:
    several = [("1,1|a", "b"), ("1", ",1|ab"), ("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")]
    turns = Turns.of(dataclasses.replace(asked(predict, *choices), dialogue=str(i)) for i, choices in enumerate(several))
    assert len(set(words(turns.asked))) == len(several)


def test_parts_keep_their_order_and_are_joined_again(run: IitRun) -> None:
    turns = Turns.of_run(run)
    parts = turns.by_tier()
    assert all(np.all(np.diff(rows) > 0) for rows in parts.values())
    rows = np.concatenate(list(parts.values()))
    assert rows_of(Turns.concat([turns.take(part) for part in parts.values()])) == rows_of(turns.take(rows))

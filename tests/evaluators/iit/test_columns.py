"""Figures are made of columns: the same from a list of predictions and from a table, in any order, without an object per prediction."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluators.compare.runs import comparisons
from evaluators.iit.columns import Names, Turns
from evaluators.iit.comparison import pair_turns
from evaluators.iit.evaluate import evaluate
from evaluators.iit.forgetting import forgetting
from evaluators.iit.results import summarise
from evaluators.runs.options import RunOptions
from iit_bench.errors import UserError
from iit_bench.storage import tables
from iit_bench.storage.runs import IitRun, Run, load_run, save_rows
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


def test_a_table_is_read_once_and_part_by_part(run: IitRun, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, opened, rows = rows_of(Turns.of_run(run)), [], []
    reader = pq.ParquetFile

    class Counted(reader):  # type: ignore[misc, valid-type]
        def __init__(self, *given: Any, **more: Any) -> None:
            opened.append(given)
            super().__init__(*given, **more)

        def read(self, *given: Any, **more: Any) -> Any:
            pytest.fail("the whole table was read at once")

        def iter_batches(self, *given: Any, **more: Any) -> Any:
            for batch in super().iter_batches(*given, **more):
                rows.append(len(batch))
                yield batch

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    monkeypatch.setattr(tables, "BATCH", 7)
    again = dataclasses.replace(run)
    assert rows_of(Turns.of_run(again)) == whole and Turns.of_run(again) is Turns.of_run(again)
    assert len(opened) == 1 and max(rows) == 7 and sum(rows) == len(whole)


def test_a_turn_takes_few_bytes_and_all_turns_no_copy(run: IitRun) -> None:
    turns = Turns.of_run(run)
    columns = [column.code if isinstance(column := getattr(turns, field.name), Names) else column for field in dataclasses.fields(turns)]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    assert len(arrays) == 17 and sum(array.nbytes for array in arrays) <= 60 * len(turns)
    assert turns.take(np.ones(len(turns), dtype=np.bool_)) is turns is turns.take(np.arange(len(turns)))
    assert turns.take(turns.is_target[::-1].copy()) is turns  # under gold history all turns are targets
    pairs = pair_turns(turns, Turns.of_run(run))
    assert pairs.a is turns and pairs.b.dialogue.names == turns.dialogue.names


def test_runs_that_were_asked_in_other_orders_or_other_dialogues_are_paired(run: IitRun) -> None:
    every = run.predictions
    some = random.Random(1).sample(every, len(every) // 2)
    pairs = pair_turns(Turns.of(every), Turns.of(some))
    assert words(pairs.a.dialogue) == words(pairs.b.dialogue) == sorted(p.dialogue for p in some)
    assert [every[row].dialogue for row in Turns.of(every).row] == sorted(p.dialogue for p in every)


def test_a_number_beyond_32_bits_is_refused_in_one_sentence(run: IitRun, tmp_path: Path) -> None:
    rows = [dataclasses.replace(p, answer=2**32) for p in run.predictions]
    save_rows(tmp_path, rows, Prediction)
    with pytest.raises(UserError, match=r"column 'answer', row 0 \(from 0\): 4294967296, which must be the index of a choice"):
        Turns.of_run(dataclasses.replace(run, path=tmp_path))

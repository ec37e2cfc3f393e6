"""The files of the experiment's cells (iit_bench/lab/cells.py)."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iit_bench.errors import UserError
from iit_bench.lab import cells
from iit_bench.lab.cells import Attention, Cell, CellResult, Count, Item, Point, SourceCount
from iit_bench.storage.format import sha256_file
from tests.reliability.damages import damages
from tests.resealed import change

ITEMS = [
    Item(item="facts/SE", tier="T", source="facts", kind="capital", cluster="SE", correct=True, margin=1.25),
    Item(item="digits/3", tier="V", source="digits", kind="sum", cluster="scan 3", correct=False, margin=-0.5),
]
PARTS = {"stage1": 2.0, "train": 3.5, "score": 1.0, "attention": 0.5}
RESULT = CellResult(
    cell=Cell(method="wings", label="Wings", role="main", rate=2e-4, seed=1),
    identity="0" * 64,
    recipes=({"kind": "vlm", "optim": {"steps": 4}},),
    inputs={"llm": "a", "tower": "b", "benchmark": "c"},
    versions={"torch": "2"},
    parameters={"trained": 5, "total": 9},
    seconds=PARTS,
    cpu_seconds=PARTS,
    tokens=100,
    steps=4,
    path=(Point(step=2, scores={"V": Count(10, 4)}),),
    scores={"T": Count(1, 1), "V": Count(1, 0)},
    sources={"facts": SourceCount(1, 1, "T")},
    attention=Attention(items=3, shifts=2, layers=(0, 1), shift=0.5, low=0.1, high=0.9, curves={"image": (0.1, 0.2)}),
)


def changed(**values: object) -> CellResult:
    return dataclasses.replace(RESULT, **values)  # type: ignore[arg-type]


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    cells.write(tmp_path, RESULT, ITEMS)
    (read,) = cells.read(tmp_path)
    assert dataclasses.replace(read, items_sha256="") == RESULT


def test_items_are_a_table_of_all_cells(tmp_path: Path) -> None:
    cells.write(tmp_path, RESULT, ITEMS)
    cells.write(tmp_path, changed(cell=dataclasses.replace(RESULT.cell, seed=2), scores={"T": Count(1, 1)}), ITEMS[:1])
    table = cells.items(tmp_path)
    assert list(table.columns) == ["method", "rate", "seed", *cells.COLUMNS]
    assert table["seed"].tolist() == [1, 1, 2]
    assert table["margin"].dtype == np.float32
    assert table["correct"].dtype == bool
    pd.testing.assert_series_equal(table["margin"], pd.Series([1.25, -0.5, 1.25], dtype=np.float32, name="margin"))


def test_the_same_items_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        cells.write(tmp_path / name, RESULT, ITEMS)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_failed_cell_says_why_and_has_no_items(tmp_path: Path) -> None:
    cells.write(tmp_path, changed(state="failed", reason="the loss is not finite at step 3"))
    (read,) = cells.read(tmp_path)
    assert (read.state, read.reason) == ("failed", "the loss is not finite at step 3")
    assert cells.items(tmp_path).empty


@pytest.mark.parametrize(
    ("rate", "word"), [(0, "0"), (2e-6, "2e-6"), (1.5e-3, "1.5e-3"), (1e-3, "1e-3"), (2e-4, "2e-4"), (0.1, "1e-1"), (1.0, "1e0")]
)
def test_rates_have_one_spelling(rate: float, word: str) -> None:
    assert cells.rate_word(rate) == word
    assert float(word) == rate


def spoil(folder: Path, **values: Any) -> None:
    change(folder / "wings-2e-4-1.json", **values)


def test_a_changed_value_of_a_cell_is_refused(tmp_path: Path) -> None:
    cells.write(tmp_path, RESULT, ITEMS)
    path = tmp_path / "wings-2e-4-1.json"
    whole = json.loads(path.read_text())
    for damaged in damages(whole):
        path.write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="run it again"):
            cells.read(tmp_path)


def test_a_cell_of_before_seals_is_read(tmp_path: Path) -> None:
    cells.write(tmp_path, RESULT, ITEMS)
    path = tmp_path / "wings-2e-4-1.json"
    (whole,) = cells.read(tmp_path)
    path.write_text(json.dumps({name: one for name, one in json.loads(path.read_text()).items() if name not in ("version", "seal")}))
    assert cells.read(tmp_path) == [whole] and not cells.has_seal(path)


def test_a_cell_that_is_not_whole_is_refused_in_a_sentence(tmp_path: Path) -> None:
    faults: dict[str, dict[str, Any]] = {
        "of format": {"format": "iit-bench-lab-cell/9"},
        "role": {"cell": {**dataclasses.asdict(RESULT.cell), "role": "rival"}},
        "its file's name": {"cell": {**dataclasses.asdict(RESULT.cell), "seed": 3}},
        "between 0 and n": {"scores": {"T": {"n": 2, "correct": 3}}},
        "'cell'": {"cell": None},
        "seconds lack": {"seconds": {}},
        "does not say why": {"state": "failed"},
        "not the one": {"items_sha256": "1"},
    }
    for name, values in faults.items():
        folder = tmp_path / name.replace(" ", "-").replace("'", "")
        cells.write(folder, RESULT, ITEMS)
        spoil(folder, **values)
        with pytest.raises(UserError, match="run it again"):
            cells.read(folder)


def test_a_missing_table_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    cells.write(tmp_path, RESULT, ITEMS)
    (tmp_path / "wings-2e-4-1.parquet").unlink()
    with pytest.raises(UserError, match=r"wings-2e-4-1\.parquet is missing"):
        cells.read(tmp_path)
    (tmp_path / "wings-2e-4-1.json").unlink()
    with pytest.raises(UserError, match="has no cells"):
        cells.read(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        cells.read(tmp_path / "nowhere")


IMPOSSIBLE = {
    "a null": ("cluster", [None, "scan 3"], "no null"),
    "another type": ("correct", ["yes", "no"], "it holds texts and must hold true and false"),
    "not finite": ("margin", [float("nan"), -0.5], "which must be finite"),
    "no tier": ("tier", ["T", "X"], "'X', which must be a pattern of T and V"),
    "right by a negative margin": ("margin", [-1.0, -0.5], "true where the margin is above 0"),
    "wrong by a positive margin": ("margin", [1.0, 0.5], "true where the margin is above 0"),
    "one item twice": ("item", ["digits/3", "digits/3"], "item 'digits/3', tier 'V' occurs in a row before"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_values_that_no_item_has_are_refused(case: str, tmp_path: Path) -> None:
    """Of a table with the hash on record, as whoever changes both writes it."""
    name, values, words = IMPOSSIBLE[case]
    cells.write(tmp_path, RESULT, ITEMS)
    path = tmp_path / "wings-2e-4-1.parquet"
    table = pq.read_table(path)
    if case == "one item twice":
        table = table.set_column(table.column_names.index("tier"), "tier", pa.array(["V", "V"]))
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)
    spoil(tmp_path, items_sha256=sha256_file(path))
    assert cells.read(tmp_path)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        cells.items(tmp_path)
    assert str(path) in str(caught.value)


def test_scores_that_do_not_count_the_items_are_refused(tmp_path: Path) -> None:
    for scores, words in (
        ({"T": Count(1, 0), "V": Count(1, 0)}, "by its .json 0 of 1 items of tier T are right, by its .parquet 1 of 1; remove"),
        ({"T": Count(1, 1), "V": Count(2, 0)}, "by its .json 0 of 2 items of tier V"),
        ({"T": Count(1, 1)}, "by its .json none items of tier V are right"),
    ):
        cells.write(tmp_path, changed(scores=scores), ITEMS)
        with pytest.raises(UserError, match=re.escape(words)):
            cells.items(tmp_path)

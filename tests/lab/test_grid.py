"""The grid of the experiment (iit_bench/lab/grid.py)."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from iit_bench.errors import UserError
from iit_bench.lab.cells import read_cell
from iit_bench.lab.grid import load_grid, planned, presets
from iit_bench.lab.one_cell import identity_of
from tests.lab.conftest import GRID


def grid_of(folder: Path, **values: Any) -> str:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(GRID), **values}))
    return str(path)


@pytest.mark.parametrize("name", presets())
def test_every_shipped_grid_has_recipes_that_can_be_trained(name: str) -> None:
    cells = planned(load_grid(name))
    assert len({one.cell.name for one in cells}) == len(cells)
    assert cells[0].cell.method == "base"


def test_cells_of_the_quick_grid_are_cells_of_the_full_one() -> None:
    """So that a folder of the first can be completed to the second."""
    inputs = {"llm": "a", "tower": "b", "benchmark": "c"}
    quick, full = ({one.cell: identity_of(one, inputs, grid) for one in planned(grid)} for grid in map(load_grid, ("quick", "full")))
    assert quick.items() <= full.items() and load_grid("quick").bench == load_grid("full").bench


def test_the_quick_grid_runs_whole_seeds_first() -> None:
    seeds = [one.cell.seed for one in planned(load_grid("quick"))[1:]]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize(
    ("part", "key", "words"),
    [("stage", "optim", "set optim.*: optim of the stage is None"), ("start", "inputs", "inputs is None")],
)
def test_a_part_of_a_recipe_without_keys_is_refused(part: str, key: str, words: str, tmp_path: Path) -> None:
    """Fuzzing found it: an empty key of YAML is None, in which nothing can be put."""
    made = copy.deepcopy(GRID)
    for recipe in [made["stage"]] if part == "stage" else made["starts"].values():
        recipe[key] = None
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(made))
    with pytest.raises(UserError, match=words.replace(".*", r"[^:]*")):
        planned(load_grid(str(path)))


def test_the_rate_is_put_where_the_method_says(tmp_path: Path) -> None:
    one = planned(load_grid(grid_of(tmp_path, rates=[3e-4, 0])))[2]
    assert one.cell.name == "full-3e-4-0" or one.cell.name == "full-0-0"
    last = one.recipes[-1]
    assert last["optim"]["lr"] == {"projector": 2e-3, "llm": one.cell.rate}
    assert last["method"] == {"name": "llava"}


def test_cells_of_one_start_and_seed_share_their_first_stage(tmp_path: Path) -> None:
    cells = planned(load_grid(grid_of(tmp_path, seeds=[0, 1])))
    first = [one.recipes[0] for one in cells[1:] if one.cell.seed == 1]
    assert len(first) == 2
    assert first[0] == first[1]
    assert first[0]["seed"] == 1


def test_only_chooses_cells() -> None:
    cells = planned(load_grid("quick"), ("method=wings,full", "rate=2e-4", "seed=1"))
    assert [one.cell.name for one in cells] == ["full-2e-4-1", "wings-2e-4-1"]


def test_a_key_of_only_may_be_repeated() -> None:
    assert planned(load_grid("quick"), ("seed=0", "method=full", "seed=1")) == planned(load_grid("quick"), ("method=full", "seed=0,1"))


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("method=none", "the grid has no method 'none', only base, control, projector, full"),
        ("method=full,seed=1", "the grid has no method 'seed=1', only .*; each key takes an --only of its own"),
        ("seed=0,method=full", "seed must be a number, not 'method=full'; each key takes an --only of its own"),
        ("seed=0,9", "the grid has no seed '9', only 0, 1;"),
        ("colour=red", "must be KEY=VALUE"),
        ("seed", "must be KEY"),
        ("rate=x", "a number"),
    ],
)
def test_only_is_refused_in_a_sentence(only: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        planned(load_grid("quick"), (only,))


def test_only_of_values_that_no_cell_has_together_is_refused() -> None:
    with pytest.raises(UserError, match="no cell of the grid matches --only method=base --only seed=1"):
        planned(load_grid("quick"), ("method=base", "seed=1"))


LEARNERS = {"starts": {"llava": {**GRID["starts"]["llava"], "model": {"visual": True, "rank": 4}}}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methods": [{**GRID["methods"][0], "start": "none"}]}, "none of starts"),
        ({"methods": [GRID["methods"][0]] * 2}, "two methods"),
        ({"methods": [{**GRID["methods"][0], "role": "rival"}]}, "role must be"),
        ({"methods": [{**GRID["methods"][0], "name": "A/B"}]}, "small letters"),
        ({"methods": [{**GRID["methods"][0], "set": {"optim.lr.llms": "RATE"}}]}, "unknown key 'llms'"),
        ({"methods": [{**GRID["methods"][0], "set": {"optim.lr.visual": 1e-3}}]}, "no such part"),
        ({"stage": {"kind": "base"}}, "kind 'base'"),
        ({"starts": {**GRID["starts"], "llava": None}}, "key 'starts', key 'llava': must be a mapping; it is null"),
        (LEARNERS | {"methods": [{**GRID["methods"][1], "set": {"method": {"name": "wings", "rank": 8}}}]}, "have rank 4; give it a start"),
        (LEARNERS | {"methods": [GRID["methods"][0]]}, "its start trains visual, which its last stage is without"),
        ({"seeds": "all"}, "must be a list"),
        ({"bench": {"size": 0}}, "size"),
        ({"bench": {"dtype": "float16"}}, "dtype must be one of float32, bfloat16"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_before_anything_is(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        planned(load_grid(grid_of(tmp_path, **values)))


def test_cells_from_before_the_benchmarks_dtype_could_be_chosen_keep_their_identity() -> None:
    """The committed cells were made by the quick grid."""
    grid = load_grid("quick")
    cell = next(one for one in planned(grid) if one.cell.name == "full-2e-4-0")
    made = read_cell(Path(__file__).parents[2] / "docs" / "lab" / "cells" / "full-2e-4-0.json")
    assert identity_of(cell, made.inputs, grid) == made.identity
    other = dataclasses.replace(grid, bench=dataclasses.replace(grid.bench, dtype="bfloat16"))
    assert identity_of(cell, made.inputs, other) != made.identity

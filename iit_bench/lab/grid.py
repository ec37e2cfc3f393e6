"""The grid of an experiment: a YAML file with methods, learning rates of the LLM and seeds, and the cells that follow from it.

The stages of a cell are recipes of kind `vlm`: one of `starts`, trained once per seed for all cells that begin with it, then `stage`, over
which the method's `set` is put. In it the word RATE stands for the cell's learning rate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from iit_bench.errors import UserError
from iit_bench.lab.cells import BASE, Cell, Role
from iit_bench.training.method_records import LearnerOptions, MethodOptions
from iit_bench.training.ranges import within
from iit_bench.training.recipe import KINDS, fill, read_yaml
from iit_bench.training.records import PRECISIONS
from iit_bench.training.stages import VlmRecipe, options_of

RATE = "RATE"
ONLY = ("method", "rate", "seed")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every cell is evaluated on."""

    preset: str = "lab2"
    text: tuple[str, ...] = ()  # sources of T questions in place of the preset's
    visual: tuple[str, ...] = ()  # likewise, of V questions
    size: int = within(1, default=200)  # targets per modality
    tiers: str = "full"
    seed: int = within(0, default=0)
    observed: int = within(0, default=40)  # groups whose attention is observed; 0 = none
    observed_tiers: tuple[str, ...] = ("TV", "TVT")
    dtype: str = "float32"  # in which every cell's model answers, the base LLM too: float32 or bfloat16

    def __post_init__(self) -> None:
        if self.dtype not in PRECISIONS:
            raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}; it is {self.dtype!r}")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every cell starts from: a folder, `shipped:NAME`, of the LLM also a GGUF file; either may be a Hub id."""

    llm: str = "shipped:base-llm"
    tower: str = "shipped:tower"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to make a multimodal model, and where in the grid it is tried."""

    name: str
    label: str
    role: str = "main"  # main | control | ablation
    start: str = ""  # the first stage, a key of the grid's `starts`
    set: dict[str, Any] = field(default_factory=dict)  # dotted key -> value over the grid's `stage`
    merged: float = within(0, 1, default=0.0)  # above 0: then the LLM is averaged with its base, with this share of the tuned weights
    rates: tuple[float, ...] = ()  # empty: the grid's
    seeds: tuple[int, ...] = ()  # empty: the grid's
    priority: int = within(1, default=1)  # cells of a lower number come first

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role must be one of {', '.join(get_args(Role))}; it is {self.role!r}")
        if not self.name or not set(self.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"):
            raise ValueError(f"the name of a method is of small letters, digits and '-'; it is {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A whole experiment. The base LLM itself is always a cell, the first one."""

    title: str
    starts: dict[str, dict[str, Any]]  # name -> recipe of kind vlm, without inputs and seed
    stage: dict[str, Any]  # recipe of the last stage, likewise
    methods: tuple[Method, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    inputs: Inputs = field(default_factory=Inputs)
    bench: Bench = field(default_factory=Bench)

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        if twice := next((name for name in [*names, BASE] if [*names, BASE].count(name) > 1), None):
            raise ValueError(f"two methods are called {twice!r} ({BASE} is the base LLM); give each a name of its own")
        if lost := next((method for method in self.methods if method.start not in self.starts), None):
            raise ValueError(f"method {lost.name} has start {lost.start!r}, which is none of starts: {', '.join(self.starts)}")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A cell, and the recipes of its stages, without inputs; each starts from the one before, the first from LLM and tower."""

    cell: Cell
    recipes: tuple[Mapping[str, Any], ...]


def presets() -> list[str]:
    """Names of the grids that come with the package, sorted."""
    folder = resources.files("iit_bench") / "lab" / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_grid(name: str) -> Grid:
    """Read a grid by name or path.

    Raises:
        UserError: no such grid, not YAML, an unknown key, a value of the wrong type or outside its range.
    """
    if name in presets():
        text = resources.files("iit_bench").joinpath("lab", "presets", f"{name}.yaml").read_bytes()
    elif Path(name).is_file():
        text = Path(name).read_bytes()
    else:
        raise UserError(f"grid {name!r}: neither a file nor one of {', '.join(presets())}; give one of these names or a path")
    return fill(Grid, read_yaml(text, f"grid {name}"), f"grid {name}")


def planned(grid: Grid, only: Sequence[str] = ()) -> list[Planned]:
    """The cells in the order in which they are run: by priority, then seed by seed, so that a stopped experiment has whole seeds.

    Args:
        only: method=NAME,NAME, rate=NUMBER or seed=NUMBER; a cell has to match each key, by any of the values that the key is given.

    Raises:
        UserError: `only` has another form, or a value that no cell has, or no cell matches.
    """
    base = Planned(cell=Cell(method=BASE, label="base LLM", role="main", rate=0.0, seed=0), recipes=())
    placed: list[tuple[tuple[int, int, int], Planned]] = [((0, 0, 0), base)]
    for place, method in enumerate(grid.methods):
        for seed in method.seeds or grid.seeds:
            for rate in method.rates or grid.rates:
                cell = Cell(method=method.name, label=method.label, role=method.role, rate=rate, seed=seed)  # type: ignore[arg-type]
                recipes = _recipes(grid, method, rate, seed)
                _check(recipes, f"grid, method {method.name}")
                placed.append(((method.priority, seed, place), Planned(cell=cell, recipes=recipes)))
    ordered = [one for _, one in sorted(placed, key=lambda pair: pair[0])]
    wanted = _chosen(only, [one.cell for one in ordered])
    chosen = [one for one in ordered if all(_value(one.cell, key) in values for key, values in wanted.items())]
    if not chosen:
        raise UserError(f"no cell of the grid matches --only {' --only '.join(only)}; --dry-run lists all")
    return chosen


def _recipes(grid: Grid, method: Method, rate: float, seed: int) -> tuple[dict[str, Any], ...]:
    last = copy.deepcopy(grid.stage)
    for key, value in method.set.items():
        _put(last, key, _with_rate(value, rate), f"grid, method {method.name}, set {key}")
    recipes = [{**copy.deepcopy(grid.starts[method.start]), "seed": seed}, {**last, "seed": seed}]
    if method.merged:
        merge = {"kind": "merge", "alpha": method.merged, "seed": seed, "limit": last.get("limit", 0)}
        recipes.append(merge | ({"data": last["data"]} if "data" in last else {}))
    return tuple(recipes)


def _check(recipes: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse a recipe that no stage could be trained by, before any cell is run.

    Raises:
        UserError: an unknown key, a value of the wrong type, values that do not go together.
    """
    before: MethodOptions | None = None
    for number, recipe in enumerate(recipes):
        given = recipe.get("inputs", {})
        if not isinstance(given, dict):
            raise UserError(f"{where}: inputs is {given!r}, and has to have keys and values")
        inputs = {"model": "an earlier stage"} if number else {**given, "llm": "a folder", "tower": "a folder"}
        if recipe.get("kind") not in ("vlm", "merge"):
            raise UserError(f"{where}: a stage has kind {recipe.get('kind')!r}, and cells are made of stages of kind vlm")
        stage = fill(KINDS[recipe["kind"]], {**recipe, "inputs": inputs}, where)
        if isinstance(stage, VlmRecipe):
            now = options_of(stage)
            _check_start(before, now, where)
            before = now


def _check_start(before: MethodOptions | None, now: MethodOptions, where: str) -> None:
    """Refuse a stage that does not take on the learners of the one before, as `Method.check_start` does once that is trained."""
    if not isinstance(before, LearnerOptions):
        return
    if lost := [part for part in before.parts if part not in ("llm", "projector", *now.parts)]:
        raise UserError(f"{where}: its start trains {' and '.join(lost)}, which its last stage is without; give it a start without them")
    if isinstance(now, LearnerOptions) and now.rank != before.rank:
        raise UserError(
            f"{where}: its rank is {now.rank}, and the learners of its start have rank {before.rank}; give it a start of its rank"
        )


def _put(recipe: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        recipe = recipe.setdefault(parent, {})
        if not isinstance(recipe, dict):
            raise UserError(f"{where}: {parent} of the stage is {recipe!r}, and has to have keys and values")
    recipe[last] = value


def _with_rate(value: Any, rate: float) -> Any:
    if isinstance(value, dict):
        return {key: _with_rate(one, rate) for key, one in value.items()}
    return rate if value == RATE else value


def _chosen(only: Sequence[str], cells: Sequence[Cell]) -> dict[str, list[Any]]:
    wanted: dict[str, list[Any]] = {}
    for one in only:
        key, sign, text = one.partition("=")
        if key not in ONLY or not sign:
            raise UserError(f"--only {one}: must be KEY=VALUE,VALUE with a key of {', '.join(ONLY)}")
        for word in text.split(","):
            try:
                value = word if key == "method" else float(word)
            except ValueError:
                raise UserError(f"--only {one}: {key} must be a number, not {word!r}; each key takes an --only of its own") from None
            if value not in (known := list(dict.fromkeys(_value(cell, key) for cell in cells))):
                names = ", ".join(str(name) if key == "method" else f"{name:g}" for name in known)
                raise UserError(f"--only {one}: the grid has no {key} {word!r}, only {names}; each key takes an --only of its own")
            wanted.setdefault(key, []).append(value)
    return wanted


def _value(cell: Cell, key: str) -> Any:
    return cell.method if key == "method" else float(getattr(cell, key))

"""Results of the experiment's cells: per cell one JSON file of figures and one parquet table of items, small enough to be committed.

All that is reported about the experiment is computed from these files; neither models nor run folders are needed. The table is written
first and the JSON file, which has the table's sha256, last: a cell counts only if both are there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from iit_bench.errors import UserError, described
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import pretty_json, sha256_file
from iit_bench.storage.seals import SEAL, is_whole, sealed
from iit_bench.storage.tables import decode, read_columns

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "iit-bench-lab-cell/1"  # is part of a cell's identity
VERSION = 2  # of the file: 2 has a seal; files of before have neither
Role = Literal["main", "control", "ablation"]
State = Literal["done", "failed"]
BASE = "base"  # the method of the cell that scores the base LLM, before any training
COLUMNS = ("item", "tier", "source", "kind", "cluster", "correct", "margin")
_PARTS = ("stage1", "train", "score", "attention")  # keys of seconds and cpu_seconds


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the grid."""

    method: str  # its name in the grid, e.g. wings
    label: str  # as reports write it
    role: Role
    rate: float  # learning rate of the LLM, or of the adapter in its place; 0 = frozen
    seed: int

    @property
    def name(self) -> str:
        """Name of its files, e.g. wings-2e-4-0."""
        return f"{self.method}-{rate_word(self.rate)}-{self.seed}"


@dataclass(frozen=True)
class Count:
    """Correct answers out of n."""

    n: int
    correct: int


@dataclass(frozen=True)
class SourceCount(Count):
    """The same of one source, asked by itself."""

    tier: str  # T or V


@dataclass(frozen=True, kw_only=True)
class Point:
    """Dev scores during the training, or at its end; the tiers are those of training scores (V, T, VT, …), on fewer questions."""

    step: int
    scores: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What the last prompt token attends to, over a fixed set of dialogues with an image (docs/spec/iit.md#attention-shift)."""

    items: int  # dialogues observed
    shifts: int  # of them, those that have a shift
    layers: tuple[int, ...]
    shift: float | None  # 1 - correlation of the curves before and after, mean over dialogues
    low: float | None  # 95% interval
    high: float | None
    curves: dict[str, tuple[float, ...]]  # before | image | after -> mean weight per token, one per layer


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What came out of a cell: the content of its JSON file."""

    cell: Cell
    identity: str  # sha256 over recipes, weights of the inputs, benchmark and format: what a cell's numbers depend on
    recipes: tuple[dict[str, Any], ...]  # of each stage, in order, as it was trained; empty of the base
    inputs: dict[str, str]  # llm, tower: sha256 of the weights; benchmark: rows_sha256
    versions: dict[str, str]
    parameters: dict[str, int]  # trained (in the last stage), total
    seconds: dict[str, float]  # stage1 | train | score | attention -> wall time; stage 1 is shared by the cells of its seed
    cpu_seconds: dict[str, float]  # the same, of the process
    tokens: int  # trained on in the last stage, padding not counted
    steps: int  # of the last stage
    path: tuple[Point, ...]
    scores: dict[str, Count]  # tier -> targets answered
    sources: dict[str, SourceCount]  # source -> its targets asked by themselves
    attention: Attention | None
    state: State = "done"
    reason: str = ""  # why it failed, a sentence
    peak_memory: int | None = None  # bytes that the process held at most in the last stage's steps, imports included; None: not measured
    items_sha256: str = ""  # of the parquet file; empty where the cell failed


@dataclass(frozen=True, kw_only=True)
class Item:
    """A row of a cell's table: one target in one tier."""

    item: str  # id of the target
    tier: str
    source: str
    kind: str  # Question.subject
    cluster: str  # what the target depends on: its fact, its image
    correct: bool
    margin: float  # log p of the right choice minus that of the best wrong one, nats


def rate_word(rate: float) -> str:
    """A learning rate as file names and tables write it: 0, 2e-4, 1.5e-3."""
    if rate == 0:
        return "0"
    digits, _, power = f"{rate:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def write(folder: Path, result: CellResult, items: Sequence[Item] = ()) -> None:
    """Write a cell's two files; of one that failed only the JSON file.

    Raises:
        UserError: no space, or no permission.
    """
    stem = folder / result.cell.name
    if result.state == "done":
        table = _table(items)
        write_atomic(stem.with_name(f"{stem.name}.parquet"), table)
        result = dataclasses.replace(result, items_sha256=hashlib.sha256(table).hexdigest())
    body = sealed({"format": FORMAT, "version": VERSION, **dataclasses.asdict(result)})
    write_atomic(_json(folder, result.cell.name), pretty_json(body))


def read(folder: Path) -> list[CellResult]:
    """All cells of a folder, by method, rate and seed; failed ones are among them (`state`).

    Raises:
        UserError: no such folder, no cell in it, a file that is no cell, or a table that is missing or was changed.
    """
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is not there; name the folder of the cells, OUT/cells of `iit-bench lab`")
    results = [read_cell(path) for path in sorted(folder.glob("*.json"))]
    if not results:
        raise UserError(f"{str(folder)!r} has no cells; make some with `iit-bench lab`")
    return sorted(results, key=lambda result: (result.cell.method, result.cell.rate, result.cell.seed))


def read_cell(path: Path) -> CellResult:
    """One cell's JSON file, checked, and its table's hash.

    Raises:
        UserError: it is no cell, or its table is missing or was changed.
    """
    again = "remove the cell's files and run it again"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise UserError(f"{str(path)!r} has the format {stored['format']!r}, and {FORMAT!r} is read here; {again}")
        if not is_whole(stored) or ("version" in stored and SEAL not in stored):
            raise UserError(f"{str(path)!r} was changed after it was written (its seal differs); {again}")
        result: CellResult = decode(CellResult, stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is no cell of the experiment ({described(error)}); {again}") from error
    if fault := _fault(result, path):
        raise UserError(f"{str(path)!r}: {fault}; {again}")
    return result


def has_seal(path: Path) -> bool:
    """Whether a cell's JSON file, which `read_cell` reads, is of a version with a seal."""
    return SEAL in json.loads(path.read_text(encoding="utf-8"))


def items(folder: Path) -> pd.DataFrame:
    """The items of all cells that are done, a row per (cell, tier, target).

    Returns:
        method, rate, seed, then `COLUMNS`; correct is bool, margin float32.

    Raises:
        UserError: as `read`.
    """
    import pandas as pd

    frames = [_counted(folder, result) for result in read(folder) if result.state == "done"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["method", "rate", "seed", *COLUMNS])


def items_of(folder: Path, cell: Cell) -> pd.DataFrame:
    """The items of one cell, as `items`.

    Raises:
        UserError: its table cannot be read, or holds what no item has (`storage.table_values`).
    """
    import pyarrow as pa

    from iit_bench.storage.table_values import check_keys, key_of

    path = folder / f"{cell.name}.parquet"
    columns = read_columns(Item, path, COLUMNS)
    check_keys(Item, zip(*(columns[name].to_pylist() for name in key_of(Item)), strict=True), path)
    table = pa.table({name: columns[name] for name in COLUMNS}).to_pandas()
    named: tuple[tuple[str, Any], ...] = (("method", cell.method), ("rate", cell.rate), ("seed", cell.seed))
    for place, (name, value) in enumerate(named):
        table.insert(place, name, value)
    return table


def _counted(folder: Path, result: CellResult) -> pd.DataFrame:
    """As `items_of`, of a cell whose scores count these items.

    Raises:
        UserError: as `items_of`, or they do not.
    """
    table = items_of(folder, result.cell)
    by_tier = table.groupby("tier")["correct"].agg(["size", "sum"])
    counted = {str(tier): Count(int(n), int(right)) for tier, n, right in by_tier.itertuples()}
    if odd := sorted({tier for tier in {*counted, *result.scores} if counted.get(tier) != result.scores.get(tier)}):
        told, there = (f"{one.correct} of {one.n}" if one else "none" for one in (result.scores.get(odd[0]), counted.get(odd[0])))
        raise UserError(
            f"{str(folder / result.cell.name)!r}: by its .json {told} items of tier {odd[0]} are right, by its .parquet {there}; remove "
            "the cell's files and run it again"
        )
    return table


def size(folder: Path) -> int:
    """Bytes of all files of cells."""
    return sum(path.stat().st_size for pattern in ("*.json", "*.parquet") for path in folder.glob(pattern))


def _json(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"  # not with_suffix: a rate may have a point


def _fault(result: CellResult, path: Path) -> str:
    """What is wrong with a cell as it was read; "" if nothing."""
    cell = result.cell
    if cell.role not in get_args(Role) or result.state not in get_args(State):
        return f"its role is {cell.role!r} and its state {result.state!r}, which are not known"
    if f"{cell.name}.json" != path.name:
        return f"it is cell {cell.name}, which its file's name does not say"
    counts = [*result.scores.values(), *result.sources.values(), *(one for point in result.path for one in point.scores.values())]
    if any(not 0 <= one.correct <= one.n for one in counts):
        return "a count of correct answers is not between 0 and n"
    if result.state == "failed":
        return "" if result.reason else "it failed and does not say why"
    if missing := [part for part in _PARTS if part not in result.seconds or part not in result.cpu_seconds]:
        return f"its seconds lack {missing[0]}"
    table = path.with_name(f"{cell.name}.parquet")
    if not table.is_file():
        return f"its table {table.name} is missing"
    return "" if sha256_file(table) == result.items_sha256 else f"its table {table.name} is not the one it was written with"


def _table(rows: Sequence[Item]) -> bytes:
    """The rows as a parquet file: the same bytes for the same rows and version of pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pa.string()) | {"correct": pa.bool_(), "margin": pa.float32()}
    if odd := next((row.item for row in rows if not math.isfinite(row.margin)), None):
        raise ValueError(f"item {odd} has no finite margin")
    columns = {name: pa.array([getattr(row, name) for row in rows], type=kind) for name, kind in kinds.items()}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", compression_level=19)
    return sink.getvalue()

"""One cell of the experiment: its stages trained, its model evaluated and observed, and the figures of that."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from iit_bench.errors import UserError, described
from iit_bench.lab.cells import FORMAT, Attention, CellResult, Count, Item, Point, SourceCount
from iit_bench.lab.grid import Bench, Grid, Planned
from iit_bench.models.checkpoint_check import shard_headers
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import files_sha256
from iit_bench.storage.seals import is_whole, sealed
from iit_bench.storage.tables import canonical_json

COST = "cost.json"  # in a stage's folder: seconds and CPU seconds of its training
LOG = "log.jsonl"  # in a stage's folder, by the training


@dataclass
class Clock:
    """Seconds of the parts of a cell: by the wall, and of this process on the CPU."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Count what is done inside as this part."""
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.add(part, time.monotonic() - wall, time.process_time() - cpu)

    def add(self, part: str, seconds: float, cpu_seconds: float) -> None:
        """Count seconds as this part."""
        self.seconds[part] = round(self.seconds.get(part, 0.0) + seconds, 2)
        self.cpu_seconds[part] = round(self.cpu_seconds.get(part, 0.0) + cpu_seconds, 2)


@cache
def weights_sha256(value: str, key: str) -> str:
    """The hash of the weights that `inputs.llm` or `inputs.tower` names."""
    from iit_bench.training import assets

    place = assets.locate(value, key)
    if place.gguf:
        return files_sha256([place.folder / place.gguf])
    if not any(place.folder.glob("*.safetensors")):
        raise UserError(f"{key}: {str(place.folder)!r} has no safetensors; cells are identified by the hash of the inputs' weights")
    return assets.weights_sha256(place.folder)


def inputs_of(grid: Grid, benchmark_sha256: str) -> dict[str, str]:
    """What every cell of the grid starts from and is evaluated on, by hash."""
    llm, tower = (weights_sha256(getattr(grid.inputs, name), f"inputs.{name}") for name in ("llm", "tower"))
    return {"llm": llm, "tower": tower, "benchmark": benchmark_sha256}


def check_inputs(grid: Grid, planned: Planned) -> None:
    """Refuse an LLM and a tower that a cell's first stage cannot start from, before any is run; no weights are read.

    Raises:
        UserError: one of them cannot be used, or they do not go together.
    """
    from iit_bench.training import start
    from iit_bench.training.recipe import fill
    from iit_bench.training.stages import VlmRecipe
    from iit_bench.training.vlm import VlmTask

    recipe = fill(VlmRecipe, {**planned.recipes[0], "inputs": _inputs(grid)}, f"grid, method {planned.cell.method}")
    VlmTask(recipe, lambda recipe, method: start.outline(recipe, method, {}))


def identity_of(planned: Planned, inputs: Mapping[str, str], grid: Grid) -> str:
    """The hash of all that a cell's numbers depend on, versions of the software left out."""
    observed = [grid.bench.observed, list(grid.bench.observed_tiers)]
    known: dict[str, Any] = {"format": FORMAT, "recipes": list(planned.recipes), "inputs": dict(inputs), "observed": observed}
    if grid.bench.dtype != Bench.dtype:  # cells from before it could be chosen are of the default
        known["dtype"] = grid.bench.dtype
    return hashlib.sha256(canonical_json(known).encode()).hexdigest()


def stage_folders(planned: Planned, inputs: Mapping[str, str], work: Path) -> list[Path]:
    """Where each stage is trained: a folder by the hash of its recipe, of those before it, and of the inputs."""
    folders = []
    for count in range(1, len(planned.recipes) + 1):
        known = {"recipes": list(planned.recipes[:count]), "llm": inputs["llm"], "tower": inputs["tower"]}
        folders.append(work / "stages" / hashlib.sha256(canonical_json(known).encode()).hexdigest()[:16])
    return folders


def run_cell(
    grid: Grid, planned: Planned, inputs: Mapping[str, str], *, out: Path, shared: Any, take: Callable[[str], Any], progress: bool
) -> tuple[CellResult, list[Item]]:
    """Train, evaluate and observe a cell; whatever is there of an earlier try is kept.

    Args:
        grid: the experiment.
        planned: the cell.
        inputs: as `inputs_of`.
        out: folder of the experiment; models and runs are in its `work`.
        shared: the benchmark (`evaluators.iit.evaluate.Shared`).
        take: makes a context that holds the lock of this name, or raises Busy.
        progress: show bars of trainings.

    Raises:
        Busy: another process trains a stage that is needed.
        Diverged: the training's loss became infinite or NaN.
    """
    work, clock = out / "work", Clock()
    for part in ("stage1", "train", "score", "attention"):
        clock.add(part, 0.0, 0.0)
    folders = stage_folders(planned, inputs, work)
    for number, (recipe, folder) in enumerate(zip(planned.recipes, folders, strict=True)):
        with take(folder.name):
            cost = _train(grid, planned, number, recipe, folders, progress)
        clock.add("stage1" if number == 0 else "train", cost["seconds"], cost["cpu_seconds"])
    card = _card(folders[-1]) if folders else None
    run = work / "runs" / planned.cell.name
    with clock.measured("score"):
        predictions = _evaluate(grid, planned, folders[-1] if folders else None, run, out / "bench", shared)
    attention = None
    if folders and grid.bench.observed:
        with clock.measured("attention"):
            attention = _observe(grid, run)
    trained, total = _parameters(planned, folders) if folders else (0, _total(grid))
    targets = [one for one in predictions if one.is_target]
    if failed := sum(not one.logprobs for one in targets):
        raise UserError(f"{failed} of {len(targets)} targets of cell {planned.cell.name} could not be scored; see {run / 'errors.jsonl'}")
    result = CellResult(
        cell=planned.cell,
        identity=identity_of(planned, inputs, grid),
        recipes=tuple(dict(recipe) for recipe in planned.recipes),
        inputs=dict(inputs),
        versions=_versions(),
        parameters={"trained": trained, "total": total},
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        tokens=_tokens(folders[1]) if folders else 0,
        steps=_steps(planned),
        path=_path(folders[1], folders[-1], card, _steps(planned)) if card else (),
        scores=counts((one.tier, one.outcome == "correct") for one in targets),
        sources=_sources(targets),
        attention=attention,
        peak_memory=_peak_memory(folders[1]) if folders else None,
    )
    return result, [item_of(one) for one in targets]


def failed_cell(grid: Grid, planned: Planned, inputs: Mapping[str, str], reason: str) -> CellResult:
    """The result of a cell whose training diverged, which is a finding too."""
    return CellResult(
        cell=planned.cell,
        identity=identity_of(planned, inputs, grid),
        recipes=tuple(dict(recipe) for recipe in planned.recipes),
        inputs=dict(inputs),
        versions=_versions(),
        parameters={},
        seconds={},
        cpu_seconds={},
        tokens=0,
        steps=_steps(planned),
        path=(),
        scores={},
        sources={},
        attention=None,
        state="failed",
        reason=reason,
    )


# ---------------------------------------------------------------- training


def _train(grid: Grid, planned: Planned, number: int, recipe: Mapping[str, Any], folders: list[Path], progress: bool) -> dict[str, float]:
    """Train a stage that is not there yet, and return its cost."""
    from iit_bench.training import checkpoint, train

    folder = folders[number]
    if (folder / train.CARD).is_file() and (folder / COST).is_file():
        return _cost(folder / COST)
    given = [f"inputs.model={folders[number - 1]}"] if number else [f"inputs.{name}={value}" for name, value in _inputs(grid).items()]
    if recipe["kind"] == "merge":
        given.append(f"inputs.llm={grid.inputs.llm}")
    written = folder.with_suffix(".yaml")
    written.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(written, yaml.safe_dump(dict(recipe), sort_keys=False))
    if (folder / train.CARD).is_file():  # finished by a process that was killed before it wrote the cost
        train.run(str(written), given, folder, resume=True, progress=progress)  # removes what is left of the checkpoint
        seconds = sum(_card(folder)["seconds"].values())  # of one thread, whose CPU seconds are not on record: at most as many
        return _keep_cost(folder, {"seconds": seconds, "cpu_seconds": seconds})
    begun = checkpoint.find(folder)
    before = int(checkpoint.state(begun)["step"]) if begun else 0
    wall, cpu = time.monotonic(), time.process_time()
    train.run(str(written), given, folder, resume=True, progress=progress)
    cost = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
    if before:  # of what ended sessions cost, all is lost but the number of steps
        steps = recipe["optim"]["steps"]
        cost = {name: value * steps / max(steps - before, 1) for name, value in cost.items()}
    return _keep_cost(folder, cost)


def _keep_cost(folder: Path, cost: dict[str, float]) -> dict[str, float]:
    write_atomic(folder / COST, json.dumps(sealed({name: round(value, 2) for name, value in cost.items()})))
    return cost


def _cost(path: Path) -> dict[str, float]:
    """What a stage cost.

    Raises:
        UserError: the file is damaged, or was changed.
    """
    try:
        cost = json.loads(path.read_text(encoding="utf-8"))
        if not is_whole(cost):
            raise ValueError("its seal differs")
        return {name: float(cost[name]) for name in ("seconds", "cpu_seconds")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); remove its folder, and the stage is trained again") from error


def _card(folder: Path) -> dict[str, Any]:
    from iit_bench.training import train

    return train.read_card(folder)


def _inputs(grid: Grid) -> dict[str, str]:
    return dataclasses.asdict(grid.inputs)


def _steps(planned: Planned) -> int:
    return int(planned.recipes[1]["optim"]["steps"]) if planned.recipes else 0


def _log(folder: Path) -> list[dict[str, Any]]:
    """The log's last line of each step and kind: a resumed training repeats steps.

    Raises:
        UserError: it is not the one that the training ended with.
    """
    data = (folder / LOG).read_bytes()
    if _card(folder).get("files", {}).get(LOG, whole := hashlib.sha256(data).hexdigest()) != whole:  # older cards do not list it
        raise UserError(f"{str(folder / LOG)!r} was changed after it was written; remove its folder, and the stage is trained again")
    lines = [json.loads(line) for line in data.decode().splitlines()]
    last: dict[int, dict[str, Any]] = {}
    for line in lines:
        if "step" in line and "note" not in line:
            last[line["step"]] = line
    return [last[step] for step in sorted(last)]


def _tokens(folder: Path) -> int:
    return sum(int(line.get("tokens", 0)) for line in _log(folder))


def _peak_memory(folder: Path) -> int | None:
    return max((int(line["peak_memory"]) for line in _log(folder) if "peak_memory" in line), default=None)


def _path(trained: Path, saved: Path, card: Mapping[str, Any], steps: int) -> tuple[Point, ...]:
    """Dev scores of the training, and of the folder that was evaluated."""
    points = [Point(step=line["step"], scores=_scored(line["dev"])) for line in _log(trained) if "dev" in line]
    return (*points, Point(step=steps, scores=_scored(card["scores"]["dev"])))


def _scored(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Count]:
    return {name: Count(n=score["n"], correct=round(score["acc"] * score["n"])) for name, score in scores.items() if " " not in name}


def _parameters(planned: Planned, folders: list[Path]) -> tuple[int, int]:
    """How many parameters the last stage trains, and how many the saved model has."""
    from iit_bench.training import recipe, train

    total = _numbers(folders[-1])
    written = folders[1].with_suffix(".yaml")
    loaded = recipe.load_recipe(str(written), [f"inputs.model={folders[0]}"]).recipe
    task = train.make_task(loaded)  # type: ignore[arg-type]
    rates = dataclasses.asdict(loaded.optim.lr)  # type: ignore[union-attr]
    return sum(p.numel() for name, group in task.groups.items() if rates.get(name) for p in group), total


def _total(grid: Grid) -> int:
    from iit_bench.training import assets

    place = assets.locate(grid.inputs.llm, "inputs.llm")
    return _numbers(place.folder) if not place.gguf else 0


def _numbers(folder: Path) -> int:
    """How many numbers a folder's safetensors hold."""
    return sum(math.prod(shape) for path in sorted(folder.glob("*.safetensors")) for shape, _ in shard_headers(path).values())


# ---------------------------------------------------------------- evaluation


def _evaluate(grid: Grid, planned: Planned, model: Path | None, run: Path, bench: Path, shared: Any) -> list[Any]:
    """Answer the benchmark, or what is left of it; returns the predictions."""
    from evaluators.iit.evaluate import evaluate
    from evaluators.runs.options import RunOptions
    from iit_bench.storage.runs import load_run
    from iit_bench.training import assets

    name = "wings" if model else "base-llm"
    checkpoint = str(model or assets.locate(grid.inputs.llm, "inputs.llm").folder)
    options = RunOptions(
        model=name,
        checkpoint=checkpoint,
        bench=bench,
        out=run,
        name=planned.cell.name,
        scoring="loglikelihood",
        device="cpu",
        dtype=grid.bench.dtype,
        threads=1,
    )
    evaluate(options, progress=False, shared=shared)
    return load_run(run, "iit").predictions


def _observe(grid: Grid, run: Path) -> Attention | None:
    from evaluators.attention.observe import observe_run
    from evaluators.attention.shift import attention_figures

    observed = observe_run(run, progress=False, limit=grid.bench.observed, tiers=grid.bench.observed_tiers, threads=1)
    figures = attention_figures(observed.rows)
    assert figures is not None, "an observation has rows"
    shift = figures.pooled.shift
    return Attention(
        items=len(observed.rows),
        shifts=shift.n or 0,
        layers=figures.layers,
        shift=shift.value,
        low=shift.low,
        high=shift.high,
        curves={kind: tuple(float(f"{one.value:.5g}") for one in curve if one.value is not None) for kind, curve in figures.curves.items()},
    )


def counts(answers: Iterable[tuple[str, bool]]) -> dict[str, Count]:
    """How many answers of each name there are, and how many are right."""
    n, correct = Counter[str](), Counter[str]()
    for name, right in answers:
        n[name] += 1
        correct[name] += right
    return {name: Count(n=n[name], correct=correct[name]) for name in n}


def _sources(targets: list[Any]) -> dict[str, SourceCount]:
    alone = [one for one in targets if len(one.tier) == 1]
    tiers = {one.source: one.tier for one in alone}
    of_source = counts((one.source, one.outcome == "correct") for one in alone)
    return {name: SourceCount(n=count.n, correct=count.correct, tier=tiers[name]) for name, count in of_source.items()}


def item_of(one: Any) -> Item:
    """A scored target (`types.Prediction`) as a row of a cell's table."""
    best = max(value for place, value in enumerate(one.logprobs) if place != one.answer)
    margin = one.logprobs[one.answer] - best
    right = one.outcome == "correct"
    return Item(
        item=one.group, tier=one.tier, source=one.source, kind=one.subject, cluster=one.cluster, correct=right, margin=float(margin)
    )


def _versions() -> dict[str, str]:
    from evaluators.runs.header import git_commit, version
    from iit_bench.version import __version__

    commit = git_commit()
    own = {"python": platform.python_version(), "iit-bench": __version__} | ({"iit-bench commit": commit} if commit else {})
    return own | {name: version(name) or "" for name in ("torch", "transformers")}

"""`iit-bench train RECIPE`: run a recipe, or a chain of them, into a folder that transformers can load."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.training import recipe as recipes
from iit_bench.training.recipe import Loaded
from iit_bench.training.stages import IN_CHAIN, BaseRecipe, ChainRecipe, TowerRecipe, VlmRecipe

CARD = "training.json"


def run(recipe: str, overrides: Sequence[str], out: Path, resume: bool = False, progress: bool = True) -> Path:
    """Train what `recipe` says.

    The folder gets the model (bfloat16 safetensors, config, tokenizer), `training.json` (recipe and its hash, command, seed, versions,
    time, and the scores that the saved file itself reaches) and `log.jsonl`.

    Args:
        recipe: name of a shipped recipe or path of a YAML file.
        overrides: "key=value" with dotted keys, as after `--set`.
        out: folder to make; a chain makes one folder per stage in it.
        resume: continue an earlier run with the same arguments; finished stages are kept.
        progress: show bars, and what is done at the moment, on standard error.

    Returns:
        `out`.

    Raises:
        UserError: unknown recipe, key or input; `out` holds something already and `resume` is false.
    """
    for stage, folder in _stages(recipes.load_recipe(recipe, overrides), out):
        _run_stage(stage, folder, resume, progress)
    return out


def _stages(loaded: Loaded, out: Path) -> list[tuple[Loaded, Path]]:
    """What is trained, in order, and where to: every stage of a chain is read and checked before the first one starts."""
    if not isinstance(loaded.recipe, ChainRecipe):
        return [(loaded, out)]
    stages = []
    for stage in loaded.recipe.stages:
        values = {**loaded.recipe.set, **stage.set}
        text = [f"{key}={_as_yaml(_inside(value, out))}" for key, value in values.items()]
        stages += _stages(recipes.load_recipe(stage.recipe, text), out / stage.out)
    return stages


def _run_stage(loaded: Loaded, out: Path, resume: bool, progress: bool) -> None:
    import torch

    from iit_bench.training import checkpoint, loop

    recipe = loaded.recipe
    assert not isinstance(recipe, ChainRecipe)
    identity = {"recipe": loaded.name, "recipe_sha256": loaded.sha256, "overrides": _without_paths(loaded.overrides)}
    if resume and (out / CARD).is_file():
        done = json.loads((out / CARD).read_text(encoding="utf-8"))
        if {key: done.get(key) for key in identity} == identity:
            return
    if out.exists() and any(out.iterdir()) and not resume:
        raise UserError(f"{out}: is not empty; give another --out, or --resume to continue the training in it")
    task = make_task(recipe)
    out.mkdir(parents=True, exist_ok=True)
    fitted = loop.fit(task, recipe.optim, recipe.every, out=out, identity=identity, resume=resume, progress=progress, run=recipe.run)
    task.save(out)
    task.load(out)
    start = time.monotonic()
    scores = {split: _score(task, split, recipe.limit, progress) for split in (("dev", "test") if recipe.test else ("dev",))}
    card: dict[str, Any] = {
        **identity,
        "command": _command(loaded.name, identity["overrides"]),
        "seed": recipe.seed,
        "steps": fitted.steps,
        "final_loss": round(fitted.loss, 5),
        "seconds": {"training": round(fitted.seconds, 1), "scoring": round(time.monotonic() - start, 1)},
        "threads": torch.get_num_threads(),
        "versions": {
            name: metadata.version(name) for name in ("iit-bench", "torch", "transformers", "tokenizers", "safetensors", "easy-vqa")
        }
        | {"python": platform.python_version()},
        "weights_sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "scores": {split: {name: score.as_json() for name, score in of.items()} for split, of in scores.items()},
        "optim": asdict(recipe.optim),
    }
    new = out / (CARD + ".new")
    new.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    new.replace(out / CARD)
    checkpoint.remove(out)


def _command(recipe: str, overrides: Sequence[str]) -> str:
    return shlex.join(["iit-bench", "train", recipe, *(word for item in overrides for word in ("--set", item)), "--out", "OUT"])


def _score(task: Any, split: str, limit: int, progress: bool) -> dict[str, Any]:
    """Score what was saved, which takes minutes on all questions: a line says so before, and another gives the scores."""
    how_many = f"{limit} questions" if limit else "all questions"
    _say(f"trained; scoring the saved model on {how_many} of {split} …", progress)
    scores: dict[str, Any] = task.score(split, limit or None)
    _say(f"{split}: {', '.join(f'{name} {score.acc:.3f} ({score.n})' for name, score in scores.items())}", progress)
    return scores


def _say(line: str, progress: bool) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)


def make_task(recipe: BaseRecipe | TowerRecipe | VlmRecipe) -> Any:
    """The `loop.Task` of a recipe, with `save(folder)` and `load(folder)`."""
    if isinstance(recipe, BaseRecipe):
        from iit_bench.training.base_llm import BaseTask

        return BaseTask(recipe)
    if isinstance(recipe, TowerRecipe):
        from iit_bench.training.tower import TowerTask

        return TowerTask(recipe)
    from iit_bench.training.vlm import VlmTask

    return VlmTask(recipe)


def ship(trained: Path, assets: Path, names: Sequence[str]) -> None:
    """Copy trained folders into the package's assets, without logs.

    Args:
        trained: output folder of the chain `lab`.
        assets: `iit_bench/assets/models` of a checkout.
        names: stage folders to copy.
    """
    for name in names:
        shutil.rmtree(assets / name, ignore_errors=True)
        shutil.copytree(trained / name, assets / name, ignore=shutil.ignore_patterns("log.jsonl", "checkpoint*"))


def _without_paths(overrides: Sequence[str]) -> list[str]:
    """Overrides as they are recorded: of an input folder only its name, because where it lay is no part of the recipe."""
    kept = []
    for item in overrides:
        key, _, value = item.partition("=")
        kept.append(f"{key}={Path(value.strip()).name}" if key.startswith("inputs.") else item)
    return kept


def _inside(value: Any, out: Path) -> Any:
    """`OUT/name` is the folder of an earlier stage of this chain."""
    return str(out / value.removeprefix(IN_CHAIN)) if isinstance(value, str) and value.startswith(IN_CHAIN) else value


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

"""`iit-bench train RECIPE`: run a recipe, or a chain of them, into a folder that transformers can load."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError, described, one_line
from iit_bench.models.loading_bars import without_bars
from iit_bench.storage import schema
from iit_bench.storage.atomic import check_writable, fix_for, write_atomic
from iit_bench.storage.folder_locks import LOCK, holding, refuse_if_held, tidy_after_killed
from iit_bench.storage.format import TRAINING_FORMAT, opened, sealed_json, sha256_file
from iit_bench.storage.inside import stays_inside
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.storage.seals import SEAL
from iit_bench.terminal import write
from iit_bench.training import assets
from iit_bench.training import recipe as recipes
from iit_bench.training.identity import difference, identity_of, without_paths
from iit_bench.training.recipe import Loaded
from iit_bench.training.records import Running
from iit_bench.training.stages import IN_CHAIN, BaseRecipe, ChainRecipe, MergeRecipe, TowerRecipe, VlmRecipe

if TYPE_CHECKING:
    from iit_bench.training.loop import Fitted
    from iit_bench.training.parallel import Processes

CARD = "training.json"


def run(recipe: str, overrides: Sequence[str], out: Path, resume: bool = False, progress: bool = True) -> Path:
    """Train what `recipe` says.

    The folder gets the model (bfloat16 safetensors, config, tokenizer), `training.json` (recipe and its hash, command, seed, versions,
    time, and the scores that the saved file itself reaches), `recipe.yaml` (the recipe with all its values) and `log.jsonl`.

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
        MachineError: another process of this training has ended; the same command resumes.
    """
    from iit_bench.training.parallel import joined

    for stage, folder in planned(recipe, overrides, out):
        processes = joined(_running(stage))
        with processes.together():
            _run_stage(stage, folder, resume, progress, processes)
    return out


def planned(recipe: str, overrides: Sequence[str], out: Path) -> list[tuple[Loaded, Path]]:
    """The stages of a recipe, in order, with their folders, into which a training may write.

    Args:
        recipe, overrides, out: as of `run`.

    Raises:
        UserError: unknown recipe or key, a chain that cannot be, or a folder that is a run, a benchmark, somebody else's model, …
    """
    stages = stages_of(recipes.load_recipe(recipe, overrides), out)
    for folder in dict.fromkeys((out, *(folder for _, folder in stages))):
        _refuse_others(folder)
    return stages


def _running(loaded: Loaded) -> Running:
    assert not isinstance(loaded.recipe, ChainRecipe)
    return loaded.recipe.run


def stages_of(loaded: Loaded, out: Path, above: tuple[str, ...] = ()) -> list[tuple[Loaded, Path]]:
    """What is trained, in order, and where to: every stage of a chain is read and checked before the first one starts.

    Args:
        above: hashes of the chains that this recipe is a stage of.

    Raises:
        UserError: a stage cannot be read, is the chain itself, or has a folder outside of the chain's.
    """
    if not isinstance(loaded.recipe, ChainRecipe):
        return [(loaded, out)]
    stages = []
    if loaded.sha256 in above:
        raise UserError(f"recipe {loaded.name}, key 'stages': the chain is a stage of itself; take it out")
    for stage in loaded.recipe.stages:
        if not stays_inside(stage.out):
            raise UserError(f"recipe {loaded.name}, key 'stages': 'out' {stage.out!r} leads out of the chain's folder; name one in it")
        values = {**loaded.recipe.set, **stage.set}
        text = [f"{key}={_as_yaml(_inside(value, out))}" for key, value in values.items()]
        stages += stages_of(recipes.load_recipe(stage.recipe, text), out / stage.out, (*above, loaded.sha256))
    return stages


def _run_stage(loaded: Loaded, out: Path, resume: bool, progress: bool, processes: Processes) -> None:
    """Train one stage; transformers shows no bar of the weights that it loads meanwhile, and the Hub's downloads only with `progress`."""
    with without_bars(downloads=progress and sys.stderr.isatty()):
        _train_stage(loaded, out, resume, progress, processes)


def _train_stage(loaded: Loaded, out: Path, resume: bool, progress: bool, processes: Processes) -> None:
    from iit_bench.training import checkpoint, logs, loop

    recipe = loaded.recipe
    assert not isinstance(recipe, ChainRecipe)
    logs.check_board(recipe.run)
    identity = identity_of(loaded)
    if processes.decided(lambda: _is_finished(out, identity, resume) and not checkpoint.is_left(out)):
        if processes.writes:
            tidy_after_killed(out)
        return
    processes.decided(lambda: check_writable(out))  # before a model is loaded
    task = make_task(recipe)
    with contextlib.ExitStack() as held:
        processes.decided(lambda: held.enter_context(holding(out)))
        if processes.decided(lambda: _is_finished(out, identity, resume=True)):  # by another process, since
            if processes.writes:
                checkpoint.remove(out)  # a process that was killed when the card was written has left it
            return
        if isinstance(recipe, VlmRecipe):
            processes.decided(lambda: bool(task.mixture(out, progress)))  # checked by one process; the others find what it wrote
            task.mixture(out)
        if isinstance(recipe, MergeRecipe):
            fitted = loop.Fitted(steps=0, seconds=0.0, loss=0.0)
        else:
            how: dict[str, Any] = {"resume": resume, "progress": progress, "run": recipe.run, "processes": processes}
            fitted = loop.fit(task, recipe.optim, recipe.every, out, identity, **how, limit=recipe.limit)
        if processes.how == "fsdp":
            trained, task = task, make_task(recipe) if processes.writes else task
            checkpoint.put_whole(trained.module, task.module, processes)
        if processes.writes:
            _finish(loaded, task, fitted, out, identity, progress, processes)
            checkpoint.remove(out)
        processes.wait()


def _refuse_others(out: Path) -> None:
    """Leave alone a folder that no training made: a run, a benchmark, a model.

    Raises:
        UserError: it holds such a thing.
    """
    from iit_bench.training import checkpoint, logs

    is_ours = any((out / name).exists() for name in (CARD, recipes.KEPT, logs.LOG)) or checkpoint.is_left(out)
    refuse_other_kinds(out, "no trainings go", but=("training", "model") if is_ours else ("training",), fix="give another --out")


def _is_finished(out: Path, identity: dict[str, Any], resume: bool) -> bool:
    """Whether the folder holds what would be trained.

    Raises:
        UserError: it holds something else that would be lost, or another process trains in it.
    """
    refuse_if_held(out)
    if not resume and out.exists() and any(path.name != LOCK for path in out.iterdir()):
        raise UserError(f"{out}: is not empty; give another --out, or --resume to continue the training in it")
    if not (out / CARD).is_file():
        return False
    done = read_card(out)
    if other := difference(done, identity):
        raise UserError(f"{out}: holds a model of another recipe or other --set values ({other}); give another --out")
    return True


def _finish(loaded: Loaded, task: Any, fitted: Fitted, out: Path, identity: dict[str, Any], progress: bool, processes: Processes) -> None:
    """Save the model, score what was saved, and write its card."""
    import torch
    from safetensors import SafetensorError

    from iit_bench.training import checkpoint

    recipe = loaded.recipe
    assert not isinstance(recipe, ChainRecipe)
    mixture = task.mixture(out) if isinstance(recipe, VlmRecipe) else None
    write_atomic(out / recipes.KEPT, recipes.as_yaml(recipe))  # before the model: what is killed then is still known as a training's
    try:
        task.save(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        kept = "its checkpoint is kept: " if checkpoint.find(out) is not None else ""  # a merge has none
        again = "resume" if kept else "repeat the command"
        raise UserError(f"cannot write the model into {str(out)!r}: {reason}; {kept}{fix_for(error)} and {again}") from error
    _let_read(out)
    task.load(out)
    task.module.to(processes.device)
    start = time.monotonic()
    scores = _scores(task, recipe, progress)
    card: dict[str, Any] = {
        **identity,
        "command": _command(loaded.file or loaded.name, without_paths(loaded.overrides)),
        "seed": recipe.seed,
        "steps": fitted.steps,
        "final_loss": round(fitted.loss, 5),
        "seconds": {"training": round(fitted.seconds, 1), "scoring": round(time.monotonic() - start, 1)},
        "threads": torch.get_num_threads(),
        "processes": processes.of,
        "versions": {
            name: metadata.version(name) for name in ("iit-bench", "torch", "transformers", "tokenizers", "safetensors", "easy-vqa")
        }
        | {"python": platform.python_version()},
        "weights_sha256": assets.weights_sha256(out),
        "scores": {split: {name: score.as_json() for name, score in of.items()} for split, of in scores.items()},
        "run": asdict(recipe.run),
        **({} if isinstance(recipe, MergeRecipe) else {"optim": asdict(recipe.optim)}),
        **(task.card() if isinstance(recipe, VlmRecipe | MergeRecipe) else {}),
    }
    if mixture is not None:
        card["data"] = mixture.report.as_json()
    files = (path for path in sorted(out.iterdir()) if path.is_file() and path.name != CARD and not path.name.startswith("."))
    card["files"] = {path.name: sha256_file(path) for path in files}
    write_atomic(out / CARD, sealed_json(TRAINING_FORMAT, card))


def _let_read(folder: Path) -> None:
    """Let others read the weights as they may read config.json: safetensors writes files for their owner only, whatever the umask."""
    mode = (folder / "config.json").stat().st_mode & 0o777
    for file in (*folder.glob("*.safetensors"), *folder.glob("adapter/*.safetensors")):
        file.chmod(mode)


def read_card(folder: Path) -> dict[str, Any]:
    """The `training.json` of a trained folder, without its seal; cards of before there were seals have none, and no format.

    Raises:
        UserError: it is damaged, was changed, or has a field of another type.
    """
    path, fix = folder / CARD, "train into another --out"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); {fix}") from error
    if not (isinstance(card, dict) and not {"format", SEAL} & set(card)):
        card = opened(card, path, TRAINING_FORMAT, fix, "a trained model")
    return schema.CARD.check(card, repr(str(path)), fix)


def _command(recipe: str, overrides: Sequence[str]) -> str:
    return shlex.join(["iit-bench", "train", recipe, *(word for item in overrides for word in ("--set", item)), "--out", "OUT"])


def _scores(task: Any, recipe: Any, progress: bool) -> dict[str, dict[str, Any]]:
    """Split -> scores of what was saved; empty ones where the model was trained on nothing that is asked."""
    from iit_bench.training.vlm import asked_of

    splits = ("dev", "test") if recipe.test else ("dev",)
    if isinstance(recipe, VlmRecipe) and asked_of(recipe.data) is None:
        _say("trained; nothing is scored, since data.mixture has no source of the lab", progress)
        return {split: {} for split in splits}
    return {split: _score(task, split, recipe.limit, progress) for split in splits}


def _score(task: Any, split: str, limit: int, progress: bool) -> dict[str, Any]:
    """Score what was saved, which takes minutes on all questions: a line says so before, and another gives the scores."""
    how_many = f"{limit} questions" if limit else "all questions"
    _say(f"trained; scoring the saved model on {how_many} of {split} …", progress)
    scores: dict[str, Any] = task.score(split, limit or None)
    if scores:
        _say(f"{split}: {', '.join(f'{name} {score.acc:.3f} ({score.n})' for name, score in scores.items())}", progress)
    return scores


def _say(line: str, progress: bool) -> None:
    if progress:
        write(line, file=sys.stderr, flush=True)


def make_task(recipe: BaseRecipe | TowerRecipe | VlmRecipe | MergeRecipe) -> Any:
    """The `loop.Task` of a recipe, with `save(folder)` and `load(folder)`; its models are loaded without transformers' bars."""
    with without_bars(downloads=sys.stderr.isatty()):
        return _make_task(recipe)


def _make_task(recipe: BaseRecipe | TowerRecipe | VlmRecipe | MergeRecipe) -> Any:
    if isinstance(recipe, BaseRecipe):
        from iit_bench.training.base_llm import BaseTask

        return BaseTask(recipe)
    if isinstance(recipe, TowerRecipe):
        from iit_bench.training.tower import TowerTask

        return TowerTask(recipe)
    if isinstance(recipe, MergeRecipe):
        from iit_bench.training.rivals.merging import MergeTask

        return MergeTask(recipe)
    from iit_bench.training.vlm import VlmTask

    return VlmTask(recipe)


def _inside(value: Any, out: Path) -> Any:
    """`OUT/name` is the folder of an earlier stage of this chain."""
    return str(out / value.removeprefix(IN_CHAIN)) if isinstance(value, str) and value.startswith(IN_CHAIN) else value


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

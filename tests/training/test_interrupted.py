"""What can go wrong in a training: each is one sentence, and nothing that was done is lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.training import checkpoint, loop
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task, run
from iit_bench.workflows.verifying import verify
from tests import warm_processes
from tests.full_disk import files_of_at_most
from tests.held_folder import held_elsewhere
from tests.reliability.tally import Tally

pytestmark = pytest.mark.slow
KILLED = Path(__file__).parents[1] / "reliability" / "trained.py"
KILLS = os.environ.get("TORTURE", "3")
STEPS = ("optim.steps=6", "every.checkpoint=2", "every.log=1", "every.score=100", "optim.batch=3", "data.turns=[1]")


@pytest.fixture
def recipe(tiny: dict[str, tuple[str, ...]]) -> Any:
    return load_recipe("lab-base", [*tiny["lab-base"], *STEPS]).recipe


def fit(task: Any, recipe: Any, out: Path, identity: dict[str, Any] | None = None) -> loop.Fitted:
    return loop.fit(task, recipe.optim, recipe.every, out, identity or {}, resume=True)


def stopped(recipe: Any, out: Path, at: int) -> None:
    """Train until a step, where the process is interrupted."""
    task = make_task(recipe)
    rows = task.rows

    def until(step: int) -> Any:
        if step == at:
            raise KeyboardInterrupt
        return rows(step)

    task.rows = until
    with pytest.raises(KeyboardInterrupt):
        fit(task, recipe, out)


@pytest.mark.parametrize("stage", ["lab-wings-stage2", *(["lab-base", "lab-wings-stage1"] if KILLS != "3" else [])])
def test_killed_at_random_steps_a_training_ends_with_the_same_bits(
    stage: str, tiny: dict[str, tuple[str, ...]], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """By one process; and, to the same losses, by one or two in turn."""
    tally = Tally("killed: train", record_property)
    steps = ("optim.steps=12", "every.checkpoint=3", "every.log=1", "every.score=100", "optim.batch=3", "run.accumulate=80")
    words = [str(tmp_path), KILLS, "0", stage, *tiny[stage], *steps]
    done = warm_processes.run([sys.executable, KILLED, *words], preload=warm_processes.MODELS)
    tally.add(internal_errors=int(done.returncode != 0))
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(one["kills"] >= int(KILLS) for one in found.values()), found
    tally.add(survived=sum(one["kills"] for one in found.values()))


def test_a_training_that_was_stopped_before_its_first_checkpoint_is_known_as_that(recipe: Any, tmp_path: Path) -> None:
    stopped(recipe, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    (found,) = verify([tmp_path])
    assert (found.kind, found.whole, found.finished) == ("training", True, False)


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "no state"])
def test_a_checkpoint_that_is_not_whole_does_not_count(damage: str, recipe: Any, tmp_path: Path) -> None:
    stopped(recipe, tmp_path, 5)
    tensors = tmp_path / "checkpoint" / checkpoint.TENSORS
    data = tensors.read_bytes()
    if damage == "missing":
        tensors.unlink()
    elif damage == "short":
        tensors.write_bytes(data[:-1])
    elif damage == "changed":
        tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        (tmp_path / "checkpoint" / "state.json").write_text('{"step": 4')
    before = {file: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()}
    with pytest.raises(UserError, match="counts only as a whole") as caught:
        fit(make_task(recipe), recipe, tmp_path)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()} == before


def test_where_the_newest_is_not_whole_the_one_before_is_taken(recipe: Any, tmp_path: Path) -> None:
    stopped(recipe, tmp_path, 3)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint" / checkpoint.TENSORS).unlink()
    assert checkpoint.find(tmp_path) == tmp_path / "checkpoint.old"


def test_a_checkpoint_without_sizes_is_read_as_before(recipe: Any, tmp_path: Path) -> None:
    stopped(recipe, tmp_path, 5)
    state = tmp_path / "checkpoint" / "state.json"
    old = {name: value for name, value in json.loads(state.read_text()).items() if name not in ("files", "processes", "seal")}
    state.write_text(json.dumps(old))
    fit(make_task(recipe), recipe, tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 5, 6]


def test_a_loss_that_is_no_number_stops_names_the_rows_and_keeps_the_checkpoint(recipe: Any, tmp_path: Path) -> None:
    task = make_task(recipe)
    loss, rows = task.loss, task.rows
    bad = rows(4)[1].ids

    def poisoned(some: Any) -> torch.Tensor:
        return loss(some) * (float("nan") if any(row.ids == bad for row in some) else 1.0)

    task.loss = poisoned
    with pytest.raises(
        UserError, match=r"diverged at step 4: the loss is nan, from row 1 of its batch \(see log.jsonl\); .* look at these rows"
    ):
        fit(task, recipe, tmp_path)
    assert checkpoint.state(tmp_path / "checkpoint")["step"] == 4
    assert all(bool(p.isfinite().all()) for p in task.module.parameters())
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 4 and [row["row"] for row in last["rows"]] == [1]
    assert last["rows"][0]["text"] == task.tokenizer.decode(bad)
    fit(make_task(recipe), recipe, tmp_path)  # with the rows mended, it goes on from there


def test_a_gradient_that_overflows_changes_no_weight(recipe: Any, tmp_path: Path) -> None:
    task = make_task(recipe)
    loss = task.loss
    task.loss = lambda some: loss(some) * 1e38
    before = [p.detach().clone() for p in task.module.parameters()]
    with pytest.raises(UserError, match="diverged at step 0: the ") as caught:
        fit(task, recipe, tmp_path)
    assert "these rows" not in str(caught.value)
    assert all(torch.equal(p, old) for p, old in zip(task.module.parameters(), before, strict=True))


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_is_kept(recipe: Any, tmp_path: Path) -> None:
    stopped(recipe, tmp_path, 3)
    kept = (tmp_path / "checkpoint" / checkpoint.TENSORS).read_bytes()
    with pytest.raises(UserError, match="cannot write a checkpoint") as caught, files_of_at_most(len(kept) // 2):
        fit(make_task(recipe), recipe, tmp_path)
    assert "\n" not in str(caught.value) and "the one before is kept" in str(caught.value)
    assert (tmp_path / "checkpoint" / checkpoint.TENSORS).read_bytes() == kept
    assert not (tmp_path / "checkpoint.new").exists()
    fit(make_task(recipe), recipe, tmp_path)


def test_the_command_on_a_full_disk_ends_in_one_sentence_and_resumes(tiny: dict[str, tuple[str, ...]], tmp_path: Path, capsys: Any) -> None:
    """Whichever file meets the full disk first: the log, the data's table, a checkpoint, the model."""
    values = [*tiny["lab-base"], *STEPS, "optim.steps=2", "limit=2", "test=false"]
    words = ["train", "lab-base", *(word for value in values for word in ("--set", value)), "--out", str(tmp_path / "out"), "--resume"]
    for size in (0, 50, 1000, 100_000):
        with files_of_at_most(size):
            code = main([*words, "--quiet"])
        error = capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1 and error.startswith("iit-bench: cannot write") and "free some space" in error, error
    assert main([*words, "--quiet"]) == 0
    assert not list((tmp_path / "out").glob(".*")) and not list((tmp_path / "out").glob("checkpoint*"))


def test_two_trainings_in_one_folder_are_refused(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "out") as first:
        for resume in (True, False):
            with pytest.raises(UserError, match=f"another process is writing .*process {first.pid} on "):
                run("lab-base", [*tiny["lab-base"], *STEPS], tmp_path / "out", resume=resume, progress=False)
            (tmp_path / "out" / "log.jsonl").touch()  # what the first has written
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_what_a_process_left_that_was_killed_at_the_end_is_removed(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    arguments = [*tiny["lab-base"], *STEPS, "optim.steps=1", "limit=2", "test=false"]
    out = run("lab-base", arguments, tmp_path / "out", progress=False)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "checkpoint").mkdir()
    (out / "checkpoint" / "state.json").touch()  # an earlier version removed one file after the other
    (out / "checkpoint.new").mkdir()
    (out / ".training.json.999999999.partial").touch()
    run("lab-base", arguments, out, resume=True, progress=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_finished_model_of_another_recipe_is_not_overwritten(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    arguments = [*tiny["lab-base"], *STEPS, "optim.steps=1", "limit=2", "test=false"]
    out = run("lab-base", arguments, tmp_path / "out", progress=False)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"model of another recipe or other --set values \(--set here: seed=1; there: no others\)"):
        run("lab-base", [*arguments, "seed=1"], out, resume=True, progress=False)
    assert (out / "model.safetensors").read_bytes() == before
    run("lab-base", [*arguments, "run.accumulate=50"], out, resume=True, progress=False)  # how it is computed makes no other model


@pytest.mark.parametrize("name", ["run.json", "manifest.json", "fetched.json"])
def test_a_chain_puts_no_stages_into_a_folder_of_another_kind(name: str, tmp_path: Path) -> None:
    """Its stages' folders were made in the folder of a run that another process was writing."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"holds {name} of a .*, and no trainings go among its files; give another --out"):
        run("lab", [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["run.json", "config.json", "weights.safetensors", "pytorch_model.bin", "tokenizer.json"])
def test_a_folder_of_another_kind_is_left_as_it_is(tiny: dict[str, tuple[str, ...]], name: str, tmp_path: Path) -> None:
    """A training replaced config.json and the weights of a model that lay in its folder."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"holds {name} of a (run|model), and no trainings go among its files; give another --out"):
        run("lab-base", [*tiny["lab-base"], *STEPS, "optim.steps=1", "limit=2", "test=false"], tmp_path, resume=True, progress=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "{}")]


def test_a_training_that_was_killed_while_it_saved_its_model_goes_on(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    arguments = [*tiny["lab-base"], *STEPS, "optim.steps=1", "limit=2", "test=false"]
    out = run("lab-base", arguments, tmp_path / "out", progress=False)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".safetensors"}
    for left in ("recipe.yaml", "log.jsonl"):  # a merge has no log
        (out / "training.json").unlink()
        (out / {"recipe.yaml": "log.jsonl", "log.jsonl": "recipe.yaml"}[left]).unlink()
        run("lab-base", arguments, out, resume=True, progress=False)
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".safetensors"} == before


def test_a_chain_that_is_its_own_stage_is_refused_as_that(tmp_path: Path) -> None:
    """It was refused as YAML that JSON cannot hold."""
    files = [tmp_path / name / "chain.yaml" for name in ("a", "b")]
    for file, other in zip(files, reversed(files), strict=True):
        file.parent.mkdir()
        file.write_text(f"kind: chain\nstages: [{{recipe: {other}, out: s}}]\n")
    with pytest.raises(UserError, match="recipe chain, key 'stages': the chain is a stage of itself"):
        run(str(files[0]), [], tmp_path / "out")


def test_a_stage_stays_in_the_folder_of_its_chain(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    for out in ("../other", str(tmp_path / "other")):
        file.write_text(f"kind: chain\nstages: [{{recipe: lab-base, out: {out}}}]\n")
        with pytest.raises(UserError, match=f"'out' '{out}' leads out of the chain's folder"):
            run(str(file), [], tmp_path / "out")

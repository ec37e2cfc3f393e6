"""Several models in one command, and the checkpoints of a training as they land: each once, one report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.iit import evaluate as iit
from evaluators.runs.options import RunOptions
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run, load_run_header
from iit_bench.workflows import several
from tests.conftest import sizes, tiny_tokenizer
from tests.full_disk import files_of_at_most
from tests.reliability.steps import litter


def save_checkpoint(folder: Path, seed: int) -> Path:
    """A whole checkpoint as save_pretrained writes it, of weights that depend on the seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**sizes(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def options(bench, out: Path, **more) -> RunOptions:
    return RunOptions(**{"model": "hf:", "bench": bench.path, "out": out, "tiers": ("T",), "limit": 4, **more})


def waiting(*steps: Callable[[], object]) -> Callable[[float], None]:
    """A wait that lets something happen each time, then ends the watch as Ctrl-C does."""
    left = list(steps)

    def wait(seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    return wait


def stops(*_, **__) -> None:
    raise KeyboardInterrupt


def nothing() -> None:
    pass


def test_each_checkpoint_that_lands_is_evaluated_once_in_order_with_one_report(bench, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(several, "evaluate", lambda options, *rest: asked.append(options.out.name) or iit.evaluate(options, *rest))
    folder = tmp_path / "train"
    folder.mkdir()
    made = save_checkpoint(tmp_path / "made", 1)

    def land(name: str) -> Callable[[], object]:
        return lambda: shutil.copytree(made, folder / name)

    with pytest.raises(KeyboardInterrupt):
        steps = (land("step-10"), land("step-9"), nothing, nothing)
        several.watch(folder, options(bench, tmp_path / "series"), progress=False, wait=waiting(*steps))
    assert asked == ["step-10", "step-9"]  # the first had landed a look earlier
    page = (tmp_path / "series" / "report" / "index.html").read_text(encoding="utf-8")
    assert "step-9" in page and "step-10" in page
    outcome = several.watch(folder, options(bench, tmp_path / "series"), once=True, progress=False, wait=waiting(nothing))
    assert (asked, outcome.results) == (["step-10", "step-9"], {})
    shutil.copytree(made, folder / "step-11")
    several.watch(folder, options(bench, tmp_path / "series"), once=True, progress=False, wait=waiting(nothing))
    assert asked[2:] == ["step-11"]
    series = (tmp_path / "series" / "report" / "series.html").read_text(encoding="utf-8")
    table = series[series.index('<table id="series"') :]
    assert table.index(">step-9<") < table.index(">step-10<") < table.index(">step-11<")


def test_a_checkpoint_that_is_still_written_waits_until_it_is_whole(bench, tmp_path):
    made = save_checkpoint(tmp_path / "made", 1)
    folder = tmp_path / "train"
    shutil.copytree(made, folder / "step-1")
    weights = folder / "step-1" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    watched = options(bench, tmp_path / "series")
    assert several.watch(folder, watched, once=True, progress=False, wait=waiting(nothing)).results == {}
    weights.write_bytes(whole)
    assert list(several.watch(folder, watched, once=True, progress=False, wait=waiting(nothing)).results) == ["step-1"]
    assert several.is_whole(made)
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "missing.safetensors"}}))
    assert not several.is_whole(made)


def test_a_broken_checkpoint_is_named_and_the_others_are_evaluated(bench, tmp_path, capsys):
    folder = tmp_path / "train"
    save_checkpoint(folder / "good", 1)
    (save_checkpoint(folder / "bad", 2) / "config.json").write_text("{", encoding="utf-8")
    outcome = several.watch(folder, options(bench, tmp_path / "series"), once=True, progress=False, wait=waiting(nothing))
    assert (list(outcome.results), list(outcome.failed)) == (["good"], ["bad"])
    assert "bad: " in capsys.readouterr().err
    shutil.copytree(folder / "good", folder / "bad", dirs_exist_ok=True)
    again = several.watch(folder, options(bench, tmp_path / "series"), once=True, progress=False, wait=waiting(nothing))
    assert (list(again.results), again.failed) == (["bad"], {})


@pytest.mark.slow
def test_a_full_disk_ends_a_watch_and_the_same_command_goes_on(bench, tmp_path):
    folder = tmp_path / "train"
    made = save_checkpoint(folder / "step-1", 1)
    watched = options(bench, tmp_path / "series")
    for size in (0, 50, 2000):
        with files_of_at_most(size), pytest.raises(UserError, match=r"^cannot write .* free some space"):
            several.watch(folder, watched, progress=False, wait=waiting(nothing))
        assert not litter(dict.fromkeys(path.name for path in tmp_path.rglob("*")))
    again = several.watch(folder, watched, once=True, progress=False, wait=waiting(nothing))
    assert (list(again.results), again.failed) == (["step-1"], {})
    iit.evaluate(options(bench, tmp_path / "whole", model=f"hf:{made}"), False)
    one, other = ((tmp_path / name / "predictions.parquet").read_bytes() for name in ("series/step-1", "whole"))
    assert one == other


def test_of_several_models_none_is_tried_after_one_that_a_full_disk_stopped(bench, tmp_path):
    with files_of_at_most(50), pytest.raises(UserError, match=r"^cannot write .*random.* free some space"):
        several.evaluate_models(["random", "majority"], options(bench, tmp_path / "out"), progress=False)
    assert not (tmp_path / "out" / "majority").exists()


def test_other_weights_under_the_same_name_are_evaluated_anew(bench, tmp_path):
    folder = tmp_path / "train"
    save_checkpoint(folder / "step-1", 1)
    watched = options(bench, tmp_path / "series")
    several.watch(folder, watched, once=True, progress=False, wait=waiting(nothing))
    before = load_run(tmp_path / "series" / "step-1")
    save_checkpoint(folder / "step-1", 2)
    several.watch(folder, watched, once=True, progress=False, wait=waiting(nothing))
    after = load_run(tmp_path / "series" / "step-1")
    assert after.run["model"]["checkpoint_sha256"] != before.run["model"]["checkpoint_sha256"]
    assert len(after.predictions) == len(before.predictions)


def test_other_options_than_those_of_the_series_are_not_taken_for_what_was_evaluated(bench, tmp_path):
    folder = tmp_path / "train"
    save_checkpoint(folder / "step-1", 1)
    series = tmp_path / "series"
    several.watch(folder, options(bench, series), once=True, progress=False, wait=waiting(nothing))
    other = several.watch(folder, options(bench, series, style="letters"), once=True, progress=False, wait=waiting(nothing))
    assert "holds another run (style 'cloze' there, 'letters' now)" in other.failed["step-1"]
    again = several.watch(folder, options(bench, series), once=True, progress=False, wait=waiting(nothing))
    assert (again.results, again.failed) == ({}, {})


def test_a_base_given_later_adds_forgetting_to_a_series(bench, tmp_path):
    folder = tmp_path / "train"
    save_checkpoint(folder / "step-1", 1)
    series, base = tmp_path / "series", tmp_path / "base"
    iit.evaluate(options(bench, base, model="random"), False)
    several.watch(folder, options(bench, series), once=True, progress=False, wait=waiting(nothing))
    several.watch(folder, options(bench, series, base=base), once=True, progress=False, wait=waiting(nothing))
    assert load_run(series / "step-1").results.forgetting is not None


def test_several_models_read_the_benchmark_once_and_share_its_chats(bench, tmp_path, monkeypatch):
    loads, made = [], []
    load, request = several.load_benchmark, iit.Rendering.request
    monkeypatch.setattr(several, "load_benchmark", lambda path: loads.append(path) or load(path))
    monkeypatch.setattr(iit.Rendering, "request", lambda self, *rest: made.append(request(self, *rest)) or made[-1])
    base = tmp_path / "runs" / "random"
    outcome = several.evaluate_models(["majority", "random"], options(bench, tmp_path / "runs", model="majority,random", base=base), False)
    assert list(outcome.results) == ["random", "majority"]  # the base is the first
    assert len(loads) == 1
    assert len({id(one) for one in made}) == len(set(made)) < len(made) / 2
    assert load_run(tmp_path / "runs" / "majority").results.forgetting is not None
    alone = tmp_path / "alone"
    iit.evaluate(options(bench, alone, model="majority"), False)
    assert (alone / "predictions.parquet").read_bytes() == (tmp_path / "runs" / "majority" / "predictions.parquet").read_bytes()
    assert load_run_header(tmp_path / "runs" / "majority")["model"]["name"] == "majority"


def test_models_of_one_folder_name_are_refused(bench, tmp_path):
    with pytest.raises(UserError, match="would share a run folder"):
        several.evaluate_models(["hf:a/tuned", "hf:b/tuned"], options(bench, tmp_path), False)
    with pytest.raises(UserError, match="would share a run folder"):
        several.evaluate_models(["majority", "majority"], options(bench, tmp_path), False)


def test_a_name_given_to_several_models_begins_the_name_of_each(bench, tmp_path):
    several.evaluate_models(["majority", "random"], options(bench, tmp_path, name="mine"), False)
    assert [load_run_header(tmp_path / model)["name"] for model in ("majority", "random")] == ["mine majority", "mine random"]


@pytest.mark.parametrize(
    ("model", "folder"), [("hf:org/Name-7B", "Name-7B"), ("hf:out/step-10/", "step-10"), ("wings", "wings"), ("openai:gpt: x", "gpt-x")]
)
def test_a_folder_is_named_after_the_last_part_of_a_models_name(model, folder):
    assert several.folder_name(model) == folder


def test_a_series_is_in_the_order_of_its_numbers():
    assert sorted(["step-10", "step-9", "final", "step-100"], key=several.in_series) == ["final", "step-9", "step-10", "step-100"]


def test_a_run_that_was_begun_anew_and_stopped_is_no_finished_one(bench, tmp_path, monkeypatch):
    """The record of the series still had its checkpoint as evaluated, so that nobody finished it."""
    save_checkpoint(tmp_path / "train" / "step-1", 1)
    watched = {"once": True, "progress": False, "wait": waiting(nothing, nothing, nothing)}
    several.watch(tmp_path / "train", options(bench, tmp_path / "series"), **watched)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(iit, "save_run_outcome", stops)
        several.watch(tmp_path / "train", options(bench, tmp_path / "series", fresh=True), **watched)
    assert not (tmp_path / "series" / "step-1" / "results.json").exists()
    outcome = several.watch(tmp_path / "train", options(bench, tmp_path / "series"), **watched)
    assert outcome.results["step-1"].complete

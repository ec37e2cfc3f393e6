"""The one record of options: what a suite refuses, what it needs, and the way to run.json and back."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from evaluators.runs.header import arguments, bookkeeping, check_same_run, command, load_options
from evaluators.runs.options import PARTS, RunOptions
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.server_options import ServerOptions
from iit_bench.storage.runs import save_run_header

GIVEN: dict[str, dict[str, Any]] = {
    "iit": {"bench": Path("b"), "tiers": ("TV", "T"), "style": "letters", "base": Path("c"), "batch_size": 3, "blind": True},
    "text": {"tasks": ("a", "b"), "data_root": Path("d"), "fewshot_as_multiturn": False, "apply_chat_template": True, "num_fewshot": 0},
    "vqa": {
        "tasks": ("MME",),
        "judge": "gpt-4o",
        "max_new_tokens": 2,
        "reasoning_tokens": 0,
        "base_url": "http://x/v1",
        "price_in": 0.5,
        "name": "n m",
    },
}
GIVEN_ALWAYS = {"seed": 3, "date": "2026-11-29", "chat_template_kwargs": '{"a": [1, "b c"]}', "processor_kwargs": "max_pixels=9"}


def options(suite: str = "iit", **more: Any) -> RunOptions:
    return RunOptions(model="m", out=Path("o"), suite=suite, **({"bench": Path("b")} if suite == "iit" else {"tasks": ("t",)}) | more)


@pytest.mark.parametrize(
    ("suite", "more", "sentence"),
    [
        ("text", {"judge": "gpt-4o"}, "--suite text has no option --judge"),
        ("vqa", {"bench": Path("b"), "tiers": ("T",)}, "--suite vqa has no option --bench, --tiers; leave it out"),
        ("iit", {"tasks": ("a",), "num_fewshot": 1}, "--suite iit has no option --tasks, --num-fewshot"),
        ("iit", {"bench": None}, "--bench is missing"),
        ("text", {"tasks": None}, "--tasks is missing"),
        ("all", {"tasks": None}, "--bench is missing"),
    ],
)
def test_options_that_a_suite_does_not_have_or_lacks_are_refused(suite, more, sentence):
    with pytest.raises(UserError, match=sentence):
        options(suite, **more)


def test_options_of_one_suite_are_refused_by_the_function_of_another():
    from evaluators.iit.evaluate import evaluate
    from evaluators.text.evaluate import evaluate_text
    from evaluators.vqa.evaluate import evaluate_vqa

    for function, suite in ((evaluate, "text"), (evaluate_text, "iit"), (evaluate_vqa, "text")):
        with pytest.raises(UserError, match=f"options are of suite '{suite}'"):
            function(options(suite))


def test_an_option_is_declared_once_with_a_help_text():
    declared = [field for part in PARTS for field in dataclasses.fields(part)]
    assert [field.name for field in declared] == [field.name for field in dataclasses.fields(RunOptions)]
    assert all(field.metadata["help"].endswith(".") for field in declared)


@pytest.mark.parametrize("suite", GIVEN)
def test_options_come_back_from_run_json(suite, tmp_path):
    given = options(suite, **GIVEN[suite], **GIVEN_ALWAYS)
    save_run_header(tmp_path, {"suite": suite, **bookkeeping(given)})
    assert load_options(tmp_path / "run.json", out=Path("o")) == given
    assert load_options(tmp_path, out=Path("p"), fresh=True) == dataclasses.replace(given, out=Path("p"), fresh=True)


def test_runs_of_before_come_back_and_unknown_arguments_are_refused(tmp_path):
    server = {field.name: field.default for field in dataclasses.fields(ServerOptions)}
    before = {**server, "model": "m", "bench": "b", "out": "o", "checkpoint": None, "suite": "iit", "blind": False, "tiers": ["T"]}
    before |= {"scoring": "auto", "style": None, "history": "gold", "limit": None, "max_new_tokens": 32, "system_prompt": "", "seed": 0}
    before |= {
        "device": "auto",
        "dtype": "auto",
        "batch_size": None,
        "trust_remote_code": False,
        "base": None,
        "name": None,
        "fresh": False,
    }
    since = {"adapter", "chat_template_kwargs", "processor_kwargs", "reasoning_tokens", "date", "engine", "image_cache", "threads"}
    since |= {"device_map", "quantization", "attn_implementation", "arms", "until", "margin", "allow_errors"}
    assert set(arguments(options())) == set(before) | since
    save_run_header(tmp_path, {"suite": "iit", "arguments": before})
    assert load_options(tmp_path, out=Path("o")) == options(tiers=("T",))
    save_run_header(tmp_path, {"suite": "iit", "arguments": before | {"colour": "red"}})
    with pytest.raises(UserError, match="arguments this version does not know: colour"):
        load_options(tmp_path, out=Path("o"))


def test_a_run_of_another_suite_is_not_resumed(tmp_path):
    run = {"suite": "text", "model": {}, "tasks": ["t"]}
    check_same_run(tmp_path, run, run)
    with pytest.raises(UserError, match=r"holds another run \(suite 'text' there, 'iit' now\); choose another --out"):
        check_same_run(tmp_path, run, {"suite": "iit", "model": {}, "benchmark": {"rows_sha256": ""}})


@pytest.mark.parametrize("suite", GIVEN)
def test_the_command_of_a_run_is_read_as_the_same_options(suite, monkeypatch):
    given = options(suite, **GIVEN[suite], **GIVEN_ALWAYS)
    read = []
    monkeypatch.setattr("iit_bench.cli.eval._evaluate_suite", lambda options, **_: read.append(options))
    assert main(shlex.split(command(given))[1:]) == 0
    assert read == [given]
    assert json.dumps(arguments(read[0])) == json.dumps(arguments(given))


def test_the_models_options_are_those_of_the_run():
    given = options(checkpoint="c", device="cpu", dtype="float32", seed=4, trust_remote_code=True, base_url="http://x/v1", retries=1)
    server = ServerOptions(base_url="http://x/v1", retries=1)
    assert given.model_options == ModelOptions(checkpoint="c", device="cpu", dtype="float32", seed=4, trust_remote_code=True, server=server)

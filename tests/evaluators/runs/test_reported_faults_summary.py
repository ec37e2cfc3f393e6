"""Reported faults of what `iit-bench eval` prints and of its exit code: one test per fault, each with what was wrong and what is right."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from evaluators.runs.summary import summary_text
from iit_bench.cli import main
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run
from tests.scripted_model import save_scripted

Eval = Callable[..., int]


@pytest.fixture
def run_eval(bench, tmp_path, capsys) -> Eval:
    """`run_eval(context, *more)` evaluates a model whose context has that many tokens; gives the exit code."""

    def call(context: int, *more: str) -> int:
        folder = save_scripted(tmp_path / "model", ["A", "<|end|>"], context=context)
        capsys.readouterr()  # what saving it said
        words = ["eval", "--model", f"hf:{folder}", "--bench", str(bench.path), "--limit", "2", "--device", "cpu", "--quiet"]
        return main([*words, "--scoring", "generate", "--style", "letters", "--out", str(tmp_path / "run"), *more])

    return call


@pytest.mark.parametrize("history", ["gold", "own"])
def test_a_run_without_one_answer_names_the_cause_and_fails(run_eval, tmp_path, capsys, history):
    """A run all of whose items failed ended with 0 and no cause: its most frequent error is printed, and the exit code is 1."""
    assert run_eval(8, "--tiers", "T,TT", "--history", history) == 1
    said = capsys.readouterr()
    errors = load_run(tmp_path / "run").errors
    first = sum(error["reason"] == "context overflow" for error in errors)
    assert "  most frequent error: context overflow: " in said.out and f" ({first} of {len(errors)} errors)" in said.out
    assert "no item was answered, 4 of 4 failed; most frequent error: context overflow" in said.err.splitlines()[-1]


def test_a_run_with_some_answers_names_its_most_frequent_error(run_eval, tmp_path, capsys):
    """Failed items were a bare count: their most frequent reason is beside it."""
    run_eval(256, "--tiers", "T,TTT")
    outcomes = load_run(tmp_path / "run").results.outcomes
    assert 0 < outcomes["error"] < sum(outcomes.values())
    assert "most frequent error: context overflow" in capsys.readouterr().out


def test_failed_items_beyond_those_allowed_are_an_exit_code(run_eval, tmp_path, capsys):
    """A run with failed items ended with 0: it ends with 1, unless so many are allowed."""
    assert run_eval(256, "--tiers", "T,TTT") == 1
    outcomes = load_run(tmp_path / "run").results.outcomes
    failed = outcomes["error"]
    assert 1 < failed < sum(outcomes.values())
    why = f"{failed} items have failed for reasons of their own (errors.jsonl), 0 may; remove the cause, or allow them with"
    assert f"iit-bench: {why} --allow-errors {failed}" in capsys.readouterr().err
    assert main(["arms", str(tmp_path / "run"), "--arms", "reordered", "--quiet"]) == 0  # it asks what the run has answered
    assert main(["merge", str(tmp_path / "run")]) == 1
    assert run_eval(256, "--tiers", "T,TTT", "--fresh", "--allow-errors", str(failed - 1)) == 1
    assert run_eval(256, "--tiers", "T,TTT", "--fresh", "--allow-errors", str(failed)) == 0
    assert run_eval(256, "--tiers", "T,TTT", "--fresh", "--json") == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["outcomes"]["error"] == failed


def test_several_models_and_checkpoints_have_the_exit_code_of_one(bench, tmp_path, capsys):
    folder = save_scripted(tmp_path / "landed" / "one", ["A", "<|end|>"], context=256)
    ask = ["--bench", str(bench.path), "--limit", "2", "--device", "cpu", "--quiet", "--scoring", "generate", "--style", "letters"]
    ask += ["--tiers", "T,TTT"]
    several = ["eval", "--model", f"hf:{folder},random", "--out", str(tmp_path / "several"), *ask]
    several[several.index("generate")] = "auto"
    watch = ["watch", str(tmp_path / "landed"), "--once", "--out", str(tmp_path / "series"), *ask]
    for command in (several, watch):
        capsys.readouterr()
        assert main(command) == 1
        assert "failed for reasons of their own (errors.jsonl), 0 may" in capsys.readouterr().err
        assert main([*command, "--allow-errors", "100", *(["--fresh"] if command is watch else [])]) == 0


def test_json_of_a_run_without_one_answer_is_whole(run_eval, capsys):
    """With --json the results are printed as for every run, and the exit code is 1 as without it."""
    assert run_eval(8, "--tiers", "T", "--json") == 1
    assert json.loads(capsys.readouterr().out)["outcomes"]["error"] == 2


def test_a_subset_without_results_has_no_empty_brackets(run_eval, tmp_path, capsys):
    """Where no tier had a result, `subset score ()` was printed; it has no brackets."""
    run_eval(8, "--tiers", "T")
    assert "subset score" in capsys.readouterr().out
    assert "()" not in summary_text("x", load_run(tmp_path / "run").results)


@pytest.mark.parametrize("scores", [True, False])
def test_scoring_is_not_advised_to_a_model_that_cannot_score(bench, tmp_path, scores):
    """--scoring loglikelihood was advised where --scoring generate had been given for a server that cannot score."""
    folder = save_scripted(tmp_path / "model", ["n", "o", "t", "<|end|>"])
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
    model.capabilities = dataclasses.replace(
        model.capabilities, scores=scores, why_not=model.capabilities.why_not | {"scores": "as a server does not"}
    )
    options = RunOptions(model="m", bench=bench.path, out=tmp_path / "run", limit=2, tiers=("T",), scoring="generate", style="letters")
    said = evaluate_model(model, bench, options, progress=False).advice
    assert "name no choice" in said and ("--scoring loglikelihood" in said) == scores

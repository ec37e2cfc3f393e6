"""The VQA suite on the command line, and its figures."""

from __future__ import annotations

import json

import pytest

from evaluators.runs.header import command
from evaluators.runs.options import RunOptions
from evaluators.vqa.presets import PRESETS, known_tasks
from evaluators.vqa.scores import Answered, task_result
from iit_bench.cli import main
from iit_bench.storage.runs import load_run

# ---------------------------------------------------------------- the command line


@pytest.mark.slow
def test_the_command_line_scores_and_repeats(tables, tmp_path, capsys) -> None:
    words = f"eval --suite vqa --model wings --tasks MME --data-root {tables} --limit 1 --max-new-tokens 2 --device cpu --quiet --out"
    assert main([*words.split(), str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "MME (total)" in shown and "of 200" in shown and "n=1" in shown
    assert main(["eval", "--from", str(tmp_path / "a/run.json"), "--quiet", "--json", "--out", str(tmp_path / "b")]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "vqa"
    first, second = (load_run(tmp_path / name) for name in "ab")
    assert first.items == second.items and first.results == second.results
    assert "--suite vqa --tasks MME --limit 1 --max-new-tokens 2" in first.run["command"]


def test_the_command_of_a_run_records_what_was_switched_off(tmp_path) -> None:
    options = RunOptions(
        model="wings", out=tmp_path, suite="text", tasks=("arc_easy",), apply_chat_template=True, fewshot_as_multiturn=False
    )
    assert command(options).endswith("--apply-chat-template --no-fewshot-as-multiturn")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--suite vqa", "--tasks is missing"),
        ("--suite vqa --tasks MME --bench b --tiers T", "--suite vqa has no option --bench, --tiers; leave it out"),
        (
            "--suite vqa --tasks MME --num-fewshot 2 --no-fewshot-as-multiturn",
            "has no option --num-fewshot, --fewshot-as-multiturn; leave it out",
        ),
        ("--suite text --tasks arc_easy --judge gpt-4o", "--suite text has no option --judge; leave it out"),
        ("--suite iit --bench b --tasks MME", "--suite iit has no option --tasks; leave it out"),
        ("--suite vqa --tasks MNE", "no task 'MNE'"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(tmp_path, capsys, words, sentence) -> None:
    assert main(["eval", "--model", "wings", "--out", str(tmp_path / "run"), *words.split()]) == 2
    assert sentence in capsys.readouterr().err


# ---------------------------------------------------------------- figures


def test_the_preset_names_vlmevalkits_data_sets() -> None:
    assert set(PRESETS["wings-vqa"]) <= known_tasks() and len(PRESETS["wings-vqa"]) == 8


def message(index: str, cluster: str, reply: str) -> Answered:
    return Answered(part="main", index=index, unit=index, cluster=cluster, reply=reply)


def test_a_data_set_that_vlmevalkit_fails_on_has_no_figure_and_reports_it() -> None:
    facts = {"published": None}
    result, items = task_result("X", facts, [message("1", "c", "yes")], {"main": {"failure": "KeyError: 'x'"}})
    assert result.state == "failed" and items == [] and result.scores["acc"].value is None
    assert result.scores["acc"].note.startswith("VLMEvalKit failed to score it (KeyError: 'x')")


def test_questions_over_one_image_widen_the_interval() -> None:
    rows = [{"index": str(i), "score": float(i < 8), "unparsed": False, "split": None} for i in range(16)]
    scored = {"main": {"kind": "choice", "rows": rows, "metrics": {"Overall": 0.5}}}
    apart, together = (
        task_result("X", {"published": None}, [message(str(i), cluster(i), "A") for i in range(16)], scored)[0].scores["acc"]
        for cluster in (str, lambda i: str(i // 8))
    )
    assert apart.value == together.value == 0.5
    assert together.high - together.low > apart.high - apart.low

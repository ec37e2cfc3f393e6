"""MBPP: code that a model writes is run where that was asked for, and only there."""

from __future__ import annotations

import os
import re
import runpy

import pytest

from evaluators.text.evaluate import evaluate_text
from evaluators.text.tasks import OURS, PRESETS, TaskOptions, load_tasks
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult
from iit_bench.storage.runs import load_run


def test_mbpp_is_left_out_of_the_preset_and_said_so_unless_code_may_run(data_root, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "short", ("piqa", "iit_mbpp"))
    tasks = load_tasks(["short"], TaskOptions(data_root=data_root), tmp_path)
    assert list(tasks.loaded["tasks"]) == ["piqa"]
    assert "--confirm-run-unsafe-code" in tasks.left_out["iit_mbpp"]


@pytest.mark.parametrize("name", ["iit_mbpp", "mbpp", "humaneval"])
def test_a_task_that_runs_code_is_refused_without_the_flag(name, data_root, tmp_path):
    with pytest.raises(UserError, match=r"runs code that the model writes; add --confirm-run-unsafe-code"):
        load_tasks([name], TaskOptions(data_root=data_root), tmp_path)


@pytest.mark.slow
def test_mbpp_runs_the_program_with_the_tests():
    code = runpy.run_path(str(OURS / "mbpp.py"))
    right = "def add_11(x):\r\n  return x + 11"
    tests = "assert add_11(1) == 12\nassert add_11(2) == 13"
    wrong = [right.replace("+ 11", "+ 12"), "raise SystemExit(0)", "while True: pass", "a\0b", "print('iit-bench: all tests ran')"]
    assert [code["passes"](program, tests) for program in (right, *wrong)] == [True, *(False for _ in wrong)]
    assert code["pass_at_1"]([tests], [[right]]) == 1.0


def test_mbpp_shows_the_examples_of_lm_evals_own_task(data_root, tmp_path):
    options = TaskOptions(data_root=data_root, unsafe_code=True)
    task = load_tasks(["iit_mbpp"], options, tmp_path).loaded["tasks"]["iit_mbpp"]
    task.set_fewshot_seed(1234)
    prompt = task.fewshot_context(task.eval_docs[0], 3)
    assert [prompt.index(f"assert add_{i}(0)") for i in (2, 3, 4, 11)] == sorted(prompt.index(f"assert add_{i}(0)") for i in (2, 3, 4, 11))
    assert prompt.count("[DONE]") == 3 and "add_1(" not in prompt and prompt.endswith("[BEGIN]\n")


@pytest.mark.slow
def test_what_a_model_writes_is_run_with_the_flag_and_scored(options, run_with, model, as_kind, tmp_path):
    """Four problems of a snapshot: right, wrong, right but for the model's words around it, and a program that leaves a trace."""
    trace = tmp_path / "executed"
    programs = {
        "11": "def add_11(x):\n  return x + 11\n",
        "12": "def add_12(x):\n  return x + 11\n",
        "13": "Here it is: def add_13(x): return x + 13",
        "14": f"open({str(trace)!r}, 'w').close()\ndef add_14(x):\n  return x + 14\n",
    }

    class Writes(type(model)):
        def generate_text(self, batch):
            assert all(request.until == ("[DONE]",) for request in batch)
            return [GenerateResult(programs[re.findall(r"add_(\d+)", request.context)[-1]], 5, 5) for request in batch]

    results = run_with(as_kind(model, Writes), options("iit_mbpp", confirm_run_unsafe_code=True))
    assert [item.score for item in load_run(options().out).items] == [1, 0, 0, 1]
    assert results.tasks[0].scores["pass_at_1"].value == 0.5
    assert trace.exists()


CODE_EVAL = """
import os
import datasets
import evaluate

class CodeEval(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references, k):
        if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError("code must be allowed")
        passed = 0
        for (program, *_), tests in zip(predictions, references):
            try:
                exec(program + "\\n" + tests, {})
                passed += 1
            except Exception:
                pass
        return {"pass@1": passed / len(predictions)}, {}
"""


@pytest.mark.slow
def test_lm_evals_own_mbpp_runs_too_and_agrees(options, run_with, model, as_kind, tmp_path, monkeypatch):
    """Its metric is code on the Hub, which asks for a variable as soon as the task is loaded; a plain one takes its place here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    (tmp_path / "code_eval").mkdir()
    (tmp_path / "code_eval" / "code_eval.py").write_text(CODE_EVAL)

    class Writes(type(model)):
        def generate_text(self, batch):
            numbers = [int(re.findall(r"add_(\d+)", request.context)[-1]) for request in batch]
            return [GenerateResult(f"def add_{n}(x):\n  return x + {n - n % 2}", 5, 5) for n in numbers]

    asked = options("mbpp", "iit_mbpp", confirm_run_unsafe_code=True, limit=6)
    theirs, ours = sorted(run_with(as_kind(model, Writes), asked).tasks, key=lambda one: one.task, reverse=True)
    assert theirs.scores["pass_at_1"].value == ours.scores["pass_at_1"].value == 0.5
    assert "HF_ALLOW_CODE_EVAL" not in os.environ


@pytest.mark.slow
def test_a_metric_that_is_not_here_is_reported(data_root, tmp_path):
    with pytest.raises(UserError, match=r"'humaneval' needs a metric that `evaluate` loads from the Hub .*; go online, or choose another"):
        load_tasks(["humaneval"], TaskOptions(data_root=data_root, unsafe_code=True), tmp_path)


def test_without_the_flag_no_model_is_asked_and_nothing_is_run(options, tmp_path):
    with pytest.raises(UserError, match="--confirm-run-unsafe-code"):
        evaluate_text(options("iit_mbpp"), progress=False)
    assert not (tmp_path / "run" / "responses.jsonl").exists()

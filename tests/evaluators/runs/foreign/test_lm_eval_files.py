"""Results that lm-eval's own command wrote are read as figures with intervals, and are those of our own run of the same model."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

from evaluators.compare.runs import comparisons
from evaluators.compare.tasks import differences, how_asked
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import read_runs
from evaluators.text.evaluate import evaluate_text_model
from evaluators.text.tasks import TaskOptions, load_tasks, write_facts
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from iit_bench.types import SuiteResults
from reports.leaderboard import report
from reports.models import gather
from tests import warm_processes

pytestmark = pytest.mark.slow

TASKS = ("iit_facts", "iit_words")
LIMIT = 6
# `lm_eval` itself, but that it looks for tasks in --include_path only: its index of 15,000 files takes half a minute.
LM_EVAL = """
import functools, lm_eval.tasks
lm_eval.tasks.TaskManager.__init__ = functools.partialmethod(lm_eval.tasks.TaskManager.__init__, include_defaults=False)
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
"""
WORDS = """
task: iit_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 3.0}}
"""


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory) -> Path:
    """The lab's facts, and a task that generates."""
    folder = write_facts(tmp_path_factory.mktemp("tasks") / "facts")
    file, cache = folder / "iit_facts_capital_test.jsonl", folder / "cache"
    (folder / "iit_words.yaml").write_text(WORDS.format(file=file, cache=cache))
    return folder


@pytest.fixture(scope="module")
def command(tasks_folder, llama_folder, tmp_path_factory) -> Path:
    """What `lm_eval` itself leaves; one process for all tests."""
    out = tmp_path_factory.mktemp("lm-eval")
    words = f"--model hf --model_args pretrained={llama_folder},dtype=float32,max_length=1024 --tasks {','.join(TASKS)} --limit {LIMIT}"
    words += f" --include_path {tasks_folder} --output_path {out} --log_samples --device cpu --batch_size 8"
    done = warm_processes.run([sys.executable, "-c", LM_EVAL, "run", *words.split()], preload=warm_processes.MODELS)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def ours(tasks_folder, llama, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ours") / "run"
    options = RunOptions(model=llama.info.name, out=out, suite="text", tasks=TASKS, limit=LIMIT, include_path=tasks_folder)
    found = load_tasks(TASKS, TaskOptions(include_path=tasks_folder), tmp_path_factory.mktemp("scratch"))
    evaluate_text_model(llama, found, options, progress=False)
    return out


def test_a_run_of_lm_evals_command_has_our_figures_and_was_asked_the_same(command, ours):
    (theirs,) = read_runs(command)
    mine = load_run(ours)
    assert theirs.run["tool"].startswith("lm-eval 0.4") and theirs.run["suite"] == "text"
    assert [result.task for result in theirs.results.tasks] == [result.task for result in mine.results.tasks]
    for their, my in zip(theirs.results.tasks, mine.results.tasks, strict=True):
        assert their.scores == my.scores and their.outcomes == my.outcomes, their.task  # value, interval, n, method
        assert differences(how_asked(theirs, their), how_asked(mine, my)) == []
        assert their == my
    assert all(result.scores[result.metric].n == LIMIT for result in mine.results.tasks if result.members is None)
    assert [(item.task, item.item, item.metric, item.score, item.reply) for item in theirs.items] == [
        (item.task, item.item, item.metric, item.score, item.reply) for item in mine.items
    ]


def test_the_two_are_compared_document_by_document(command, ours):
    (found,) = comparisons(command, ours)
    assert {one.result.over for one in found.results} == {result.task for result in load_run(ours).results.tasks}
    assert all(one.result.difference.value == 0 and one.result.difference.note == "no pair differs" for one in found.results)
    assert found.left_out == {}


def test_without_samples_an_accuracy_has_wilsons_interval_of_its_value_and_n(command, tmp_path):
    (file,) = command.rglob("results_*.json")
    alone = shutil.copy(file, tmp_path / file.name)
    (run,) = read_runs(Path(alone))
    row = json.loads(file.read_text())["results"]["iit_facts_capital"]
    figure = next(result for result in run.results.tasks if result.task == "iit_facts_capital").scores["acc"]
    assert figure.value == row["acc,none"] and figure.n == LIMIT and figure.from_stderr and run.items == []
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(row["acc,none"] * LIMIT, LIMIT, method="wilson"))
    assert figure.se == pytest.approx(row["acc_stderr,none"])


def test_settings_come_from_lm_evals_file(command, tmp_path):
    (file,) = command.rglob("results_*.json")
    found = json.loads(file.read_text())
    found["config"] |= {"limit": None, "gen_kwargs": {"temperature": 0.7}, "fewshot_seed": 5}
    found |= {"chat_template": "{{ m }}", "system_instruction": "Be brief.", "fewshot_as_multiturn": True, "n-shot": {"iit_words": 2}}
    (tmp_path / file.name).write_text(json.dumps(found))
    (run,), (before,) = read_runs(tmp_path / file.name), read_runs(command)
    now, old = (how_asked(one, next(r for r in one.results.tasks if r.task == "iit_words")) for one in (run, before))
    said = "; ".join(differences(old, now))
    for difference in (
        "limit (6 and none)",
        "system prompt (none and Be brief.)",
        "few-shot examples (0 and 2)",
        "chat template (no and yes)",
        "generation (the task's own and temperature=0.7)",
    ):
        assert difference in said


def test_the_leaderboard_marks_whose_numbers_they_are_and_has_one_column_a_task(command, ours, tmp_path):
    page = report([command, ours], tmp_path / "out").read_text()
    (run,) = read_runs(command)
    models = gather([], [run, load_run(ours)])
    assert [column.task for column in models.columns] == ["iit_facts", "iit_words"]
    (file,) = command.rglob("results_*.json")
    name = run.run["model"]["name"]
    assert {row.name for row in models.rows} == {name, f"hf:{name}"}
    assert f'<span class="badge">{run.run["tool"]}</span>' in page and file.name in page


def test_what_another_tools_file_says_is_hostile_text(command, tmp_path):
    attack = '"><script>alert(1)</script>'
    (file,) = command.rglob("results_*.json")
    found = json.loads(file.read_text()) | {"model_name": attack, "lm_eval_version": attack, "system_instruction": attack}
    (tmp_path / file.name).write_text(json.dumps(found))
    page = report([tmp_path / file.name], tmp_path / "out").read_text()
    assert attack not in page and page.count("<script>") == 1 and page.count("&lt;script&gt;alert(1)") > 3


def test_another_tools_run_of_other_tasks_is_in_the_row_of_the_same_model(command, ours):
    (run,) = read_runs(command)
    mine = load_run(ours)
    words, facts = ([r for r in each.results.tasks if (r.task == "iit_words") is only] for each, only in ((run, True), (mine, False)))
    parts = [
        dataclasses.replace(each, results=SuiteResults(suite="text", complete=True, outcomes={}, tasks=tuple(r)))
        for each, r in ((run, words), (mine, facts))
    ]
    (row,) = gather([], parts).rows
    assert row.name == mine.run["model"]["name"] and len(row.runs) == 2
    other = dataclasses.replace(parts[0], run=run.run | {"model": run.run["model"] | {"dtype": "bfloat16"}})
    assert len(gather([], [other, parts[1]]).rows) == 2


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("results_2026-01-01T00-00-00.0.json", "{", "cannot be read as JSON"),
        ("results_2026-01-01T00-00-00.0.json", "[]", "is no result file that is known here; give a run folder"),
        ("results_2026-01-01T00-00-00.0.json", '{"results": {}, "configs": {}, "versions": {}}', "lacks n-shot, n-samples; run it again"),
        ("samples_x_2026-01-01T00-00-00.0.jsonl", "", "holds lm-eval's samples without their figures; give the results_"),
        ("notes.txt", "hello", "is no result file that is known here; give a run folder"),
    ],
)
def test_files_that_cannot_be_read_are_one_sentence(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        read_runs(tmp_path / name)


def test_a_damaged_sample_names_its_line(command, tmp_path):
    folder = shutil.copytree(command, tmp_path / "copy")
    (samples,) = folder.rglob("samples_iit_words_*.jsonl")
    lines = samples.read_text().splitlines()
    samples.write_text("\n".join([*lines[:2], lines[2][:40]]))
    with pytest.raises(UserError, match=r"line 3 of .*samples_iit_words_.* is no sample of lm-eval 0.4.6 or newer"):
        read_runs(folder)


def test_a_result_that_is_no_number_has_no_figure(command, tmp_path):
    (file,) = command.rglob("results_*.json")
    found = json.loads(file.read_text())
    found["results"]["iit_words"]["exact_match,none"] = math.nan
    (tmp_path / file.name).write_text(json.dumps(found))
    (run,) = read_runs(tmp_path / file.name)
    (result,) = [result for result in run.results.tasks if result.task == "iit_words"]
    assert result.scores["exact_match"].value is None and "not a finite number" in result.scores["exact_match"].note

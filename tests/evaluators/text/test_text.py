"""The text suite from options to run folder: every task of the preset, failures, resuming, bad input."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path

import lm_eval.api.task
import lm_eval.evaluator
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from evaluators.text.evaluate import evaluate_text
from evaluators.text.tasks import PRESETS, TaskOptions, load_tasks
from iit_bench.cli import main
from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import ModelOptions, ScoreResult
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run

pytestmark = pytest.mark.slow

# ---------------------------------------------------------------- the preset

SINGLE = [name for name in PRESETS["wings-text"] if name not in ("mmlu", "cmmlu")]


def test_every_task_of_the_papers_list_loads_from_a_snapshot_and_scores(options, run_with, model):
    tasks = [*SINGLE, "mmlu_anatomy", "cmmlu_anatomy"]  # the groups themselves: tests/builders/test_paper_preset.py reads all subjects
    results = run_with(model, options(*tasks, confirm_run_unsafe_code=True))
    assert {one.task for one in results.tasks} == set(tasks)
    for one in results.tasks:
        figure = one.scores[one.metric]
        assert figure.value is not None and figure.low <= figure.value <= figure.high, one.task
        assert figure.n == 4 and sum(one.outcomes.values()) == 4
        assert len(one.data_sha256) == 64


def test_race_middle_has_the_form_of_lm_evals_race(data_root, tmp_path):
    """Both made from the same passages, once as EleutherAI/race has them and once as ehovy/race has them."""
    loaded = load_tasks(["race", "iit_race_middle"], TaskOptions(data_root=data_root), tmp_path).loaded["tasks"]
    prompts = [
        [(task.doc_to_text(doc), task.doc_to_choice(doc), task.doc_to_target(doc)) for doc in task.eval_docs] for task in loaded.values()
    ]
    assert prompts[0] == prompts[1] and len(prompts[0]) == 6


def test_chid_asks_each_blank_and_leaves_the_other_open(data_root, tmp_path):
    task = load_tasks(["iit_chid"], TaskOptions(data_root=data_root), tmp_path).loaded["tasks"]["iit_chid"]
    docs = list(task.eval_docs)
    assert len(docs) == 12
    assert "#" not in docs[0]["text"]
    assert task.doc_to_text(docs[0]).startswith("第0天他______，大家都笑他（……）。")
    assert (docs[0]["candidates"][docs[0]["answer"]], docs[1]["candidates"][docs[1]["answer"]]) == ("画蛇添足", "刻舟求剑")


def test_ocnli_asks_rows_with_a_label_only_and_its_gold_choice_says_the_label(data_root, tmp_path):
    task = load_tasks(["iit_ocnli"], TaskOptions(data_root=data_root), tmp_path).loaded["tasks"]["iit_ocnli"]
    words = {0: "所以", 1: "是的", 2: "不是的"}  # neutral, entailment, contradiction
    docs = list(task.eval_docs)
    assert [doc["idx"] for doc in docs] == [1, 2, 3, 5]
    assert all(f"正确? {words[doc['label']]}, " in task.doc_to_choice(doc)[task.doc_to_target(doc)] for doc in docs)


def test_the_facts_are_a_group_of_lm_eval_with_as_many_questions_as_the_source(options, run_with, model):
    from iit_bench.data.facts import questions

    results = run_with(model, options("iit_facts", limit=5))
    group, *relations = results.tasks
    assert (group.task, len(relations)) == ("iit_facts", 6)
    assert sum(one.n_documents for one in relations) == len(questions("test"))
    assert group.scores["acc"].n == sum(one.scores["acc"].n for one in relations) == 30
    right = sum(one.scores["acc"].value * one.scores["acc"].n for one in relations)
    assert group.scores["acc"].value == pytest.approx(right / group.scores["acc"].n)
    assert group.scores["acc"].method == "clustered wilson"


# ---------------------------------------------------------------- the run folder


def test_the_run_folder_holds_lm_evals_files_unchanged_and_figures_that_agree(options):
    results = evaluate_text(options("arc_easy", "gsm8k"), progress=False)
    run = load_run(options().out)
    assert run.results == results and run.results.complete and run.errors == ()
    assert run.run["suite"] == "text" and run.run["tasks"] == ["arc_easy", "gsm8k"] and run.run["ended"]
    files = sorted((run.path / "lm_eval").rglob("*.json*"))
    assert [path.name.split("_2")[0] for path in files] == ["results", "samples_arc_easy", "samples_gsm8k"]
    theirs = json.loads(files[0].read_text())
    for one in results.tasks:
        for metric, figure in one.scores.items():
            key = metric if "," in metric else f"{metric},none"
            assert figure.value == pytest.approx(theirs["results"][one.task][key])
    assert {item.metric for item in run.items if item.task == "gsm8k"} == {"exact_match,strict-match", "exact_match,flexible-extract"}
    assert results.tasks[1].outcomes == {"correct": 0, "wrong": 0, "unparsed": 4, "truncated": 0, "error": 0}


@pytest.mark.parametrize(("word", "turns"), [("--fewshot-as-multiturn", 3), ("--no-fewshot-as-multiturn", 1)])
def test_examples_of_a_chat_are_turns_of_their_own_or_not(word, turns, checkpoint, data_root, tmp_path):
    words = ["eval", "--suite", "text", "--model", checkpoint, "--tasks", "arc_easy", "--data-root", str(data_root), "--limit", "2"]
    words += ["--num-fewshot", "2", "--apply-chat-template", word, "--device", "cpu", "--quiet", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    (samples,) = (tmp_path / "run").rglob("samples_*.jsonl")
    prompts = [json.loads(line)["arguments"]["gen_args_0"]["arg_0"] for line in samples.read_text().splitlines()]
    assert [prompt.count("<|user|>") for prompt in prompts] == [turns, turns]
    assert all(prompt.count("Question: ") == 3 for prompt in prompts)
    assert load_run(tmp_path / "run").run["fewshot_as_multiturn"] is (turns == 3)


def test_without_progress_nothing_is_printed_and_the_process_is_left_as_it_was(
    options, run_with, model, capfd, monkeypatch, tmp_path, state_of_the_process
):
    """lm-eval seeds three generators, shows bars, sets a level of logging; where code may run, it asks for a variable."""
    monkeypatch.chdir(tmp_path)  # no git repository, of which lm-eval's git would complain
    run_with(model, options("piqa", out=tmp_path / "first"))  # what importing lm-eval changes is the import's
    capfd.readouterr()
    given = options("wsc", "gsm8k", num_fewshot=1, confirm_run_unsafe_code=True, gen_kwargs="do_sample=true,temperature=0.7")
    random.seed(5), np.random.seed(6), torch.manual_seed(7)  # not what the first run left
    before = state_of_the_process() | {"bar": lm_eval.api.task.tqdm, "git": lm_eval.evaluator.get_git_commit_hash}
    run_with(model, given)
    after = state_of_the_process() | {"bar": lm_eval.api.task.tqdm, "git": lm_eval.evaluator.get_git_commit_hash}
    assert capfd.readouterr() == ("", "")
    assert [name for name in before if after[name] != before[name]] == []


def test_a_finished_run_computes_nothing_again_and_another_run_is_refused(options, run_with, model, as_kind):
    given = options("piqa")
    first = run_with(model, given)
    answered = (given.out / "responses.jsonl").read_bytes()
    items = (given.out / "items.parquet").read_bytes()

    class Refuses(type(model)):
        def score_paths(self, batch, paths):
            raise AssertionError("asked again")

    again = as_kind(model, Refuses)
    assert run_with(again, given) == first
    assert (given.out / "responses.jsonl").read_bytes() == answered
    assert (given.out / "items.parquet").read_bytes() == items
    assert len(list((given.out / "lm_eval").rglob("results_*.json"))) == 1
    with pytest.raises(UserError, match=r"holds another run \(num_fewshot None there, 1 now"):
        run_with(model, dataclasses.replace(given, num_fewshot=1))


def test_killed_in_the_middle_the_same_run_resumes_to_the_same_items(options, run_with, model, tmp_path, as_kind):
    whole = run_with(model, options("piqa", limit=6, batch_size=2, out=tmp_path / "whole"))
    given = options("piqa", limit=6, batch_size=2)
    calls = []

    class Dies(type(model)):
        def score_paths(self, batch, paths):
            calls.append(len(batch))
            if len(calls) > 2:
                raise KeyboardInterrupt
            return super().score_paths(batch, paths)

    with pytest.raises(KeyboardInterrupt):
        run_with(as_kind(model, Dies), given)
    calls.clear()

    class Counts(type(model)):
        def score_paths(self, batch, paths):
            calls.append(len(batch))
            return super().score_paths(batch, paths)

    assert run_with(as_kind(model, Counts), given) == whole
    assert sum(calls) == 2
    assert (given.out / "items.parquet").read_bytes() == (tmp_path / "whole" / "items.parquet").read_bytes()


@pytest.mark.parametrize(("error", "kind"), [(ItemError("too odd", "why"), "item"), (MachineError("gone", "why"), "machine")])
def test_a_document_that_fails_counts_as_wrong_and_is_reported(error, kind, options, run_with, model, as_kind):
    class Fails(type(model)):
        def score_paths(self, batch, paths):
            if any("Clean copper" in request.context for request in batch):
                raise error
            return [ScoreResult((0.0, -9.0), (1, 1), (True, False), 5) for _ in batch]

    results = run_with(as_kind(model, Fails), options("piqa", batch_size=1))  # documents 0 and 2 have gold 0
    run = load_run(options().out)
    assert run.errors == ({"task": "piqa", "item": "0", "kind": kind, "reason": error.reason, "detail": "why"},)
    (task,) = results.tasks
    assert task.outcomes == {"correct": 1, "wrong": 2, "unparsed": 0, "truncated": 0, "error": 1}
    assert (task.scores["acc"].value, task.scores["acc"].n) == (0.25, 4)
    assert results.complete is (kind == "item")
    assert "1 document could not be asked" in task.notes[0]


def test_a_bug_is_not_taken_for_a_users_setting(options, run_with, model, as_kind):
    class Broken(type(model)):
        def generate_text(self, batch):
            raise TypeError("a bug")

    results = run_with(as_kind(model, Broken), options("gsm8k", limit=1))  # the item's own error, counted with its type
    assert results.outcomes["error"] == 1
    assert [(error["reason"], error["detail"]) for error in load_run(options().out).errors] == [("TypeError", "a bug")]
    with pytest.raises(UserError, match=r"cannot generate with .*num_beams=2.* \(a bug\); give other settings with --gen-kwargs"):
        run_with(as_kind(model, Broken), options("gsm8k", limit=1, gen_kwargs="num_beams=2", out=options().out / "two"))


def test_a_group_counts_failed_documents_as_wrong_too(options, run_with, model, as_kind):
    class Fails(type(model)):
        def score_paths(self, batch, paths):
            if any("capital" in request.context for request in batch):
                raise ItemError("too odd")
            return super().score_paths(batch, paths)

    results = run_with(as_kind(model, Fails), options("iit_facts", limit=5, batch_size=1))
    group, *relations = results.tasks
    assert group.outcomes["error"] == relations[0].outcomes["error"] == 5
    assert group.scores["acc"].value == pytest.approx(group.outcomes["correct"] / group.scores["acc"].n)


def test_a_choice_longer_than_the_models_context_fails_alone_and_counts_as_wrong(options, run_with, model, tmp_path):
    """Prompts are cut, as lm-eval cuts them; there is no cutting a choice."""
    rows = [{"q": "Say it:", "choices": ["yes", "so " * extra], "gold": 1} for extra in (1, 600, 2)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "own_long",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "d.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "q",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(task))
    results = run_with(model, options("own_long", include_path=tmp_path, data_root=None))
    run = load_run(options().out)
    (error,) = run.errors
    assert (error["task"], error["item"], error["kind"], error["reason"]) == ("own_long", "1", "item", "context overflow")
    assert [item.outcome for item in run.items].index("error") == 1 and run.items[1].score == 0
    assert results.tasks[0].scores["acc"].n == 3 and results.complete


def test_prompts_that_were_cut_to_the_models_context_are_counted(options, run_with, model):
    results = run_with(model, options("gsm8k", num_fewshot=5))
    assert results.tasks[0].notes == (
        "4 prompts filled the model's context; what did not fit was cut off at their beginning, as lm-eval does",
    )


def test_sampled_answers_are_drawn_once_per_repeat_and_repeat_themselves_on_another_day(tmp_path, options, run_with, model):
    rows = tmp_path / "own"
    rows.mkdir()
    (rows / "d.jsonl").write_text("".join(json.dumps({"q": f"Say {i}", "a": "x"}) + "\n" for i in range(2)))
    task = {
        "task": "own_sampled",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows / "d.jsonl")}, "cache_dir": str(rows / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "q",
        "doc_to_target": "a",
        "repeats": 3,
        "generation_kwargs": {"do_sample": True, "temperature": 1.0, "until": ["\n\n"]},
        "filter_list": [{"name": "all", "filter": [{"function": "take_first"}]}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (rows / "own.yaml").write_text(yaml.safe_dump(task))
    said = []
    for name in ("a", "b"):
        run_with(model, options("own_sampled", include_path=rows, out=tmp_path / name))
        (samples,) = (tmp_path / name / "lm_eval").rglob("samples_*.jsonl")
        said.append([json.loads(line)["resps"] for line in samples.read_text().splitlines()])
    assert said[0] == said[1]
    assert len(set(said[0][0][0])) > 1


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["arc_eazy"], "no lm-eval task, group, tag or preset called 'arc_eazy'; did you mean 'arc_easy'"),
        (["wings_text"], "did you mean 'wings-text'"),
        ([], "no task is named"),
    ],
)
def test_a_wrong_name_is_reported_with_the_nearest(names, said, data_root, tmp_path):
    with pytest.raises(UserError, match=said):
        load_tasks(names, TaskOptions(data_root=data_root), tmp_path)


def test_a_snapshot_that_is_not_there_a_missing_split_and_a_missing_column_are_reported_in_one_sentence(data_root, tmp_path):
    with pytest.raises(UserError, match=r"'sciq' needs the data set 'allenai/sciq', .*; fetch it with `iit-bench fetch sciq --data-root"):
        load_tasks(["sciq"], TaskOptions(data_root=data_root), tmp_path / "a")
    broken = tmp_path / "root"
    shutil.copytree(data_root / "openai", broken / "openai")
    shutil.copytree(data_root / "baber", broken / "baber")
    (broken / "openai/gsm8k/main/train-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"'gsm8k' finds no parquet, json or csv file of split 'train'"):
        load_tasks(["gsm8k"], TaskOptions(data_root=broken), tmp_path / "b")
    assert load_tasks(["gsm8k"], TaskOptions(data_root=broken, num_fewshot=0), tmp_path / "c").loaded["tasks"]  # no example is needed
    (broken / "openai/gsm8k/main/test-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"split 'test' of configuration 'main'"):
        load_tasks(["gsm8k"], TaskOptions(data_root=broken, num_fewshot=0), tmp_path / "d")
    _drop_column(broken / "baber/piqa/data/validation-00000-of-00001.parquet", "goal")
    with pytest.raises(UserError, match=r"'piqa' cannot read 'baber/piqa' from .*goal.*; check that its files are complete"):
        load_tasks(["piqa"], TaskOptions(data_root=broken), tmp_path / "e")


def test_too_few_examples_and_a_document_that_a_task_cannot_put_are_reported_with_the_tasks_name(
    data_root, tmp_path, options, run_with, model
):
    with pytest.raises(UserError, match=r"'gsm8k' has fewer examples than --num-fewshot asks for; lower it"):
        run_with(model, options("gsm8k", num_fewshot=9))
    broken = tmp_path / "root"
    shutil.copytree(data_root / "allenai/ai2_arc", broken / "allenai/ai2_arc")
    path = broken / "allenai/ai2_arc/ARC-Easy/test-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index("answerKey"), "answerKey", [["A", "B", "Z", "A", "A", "A"]]), path)
    with pytest.raises(UserError, match=r"'arc_easy' fails on its data \(.*\); check the data"):
        run_with(model, options("arc_easy", data_root=broken, fresh=True))


def test_a_task_with_images_is_refused(tmp_path, options, run_with, model):
    (tmp_path / "d.jsonl").write_text('{"q": "x", "a": "y", "i": []}\n')
    task = {
        "task": "own_images",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "d.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_image": ["i"],
        "doc_to_text": "q",
        "doc_to_target": "a",
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(UserError, match=r"lm-eval cannot run these tasks: .*multimodal"):
        run_with(model, options("own_images", include_path=tmp_path))


def _drop_column(path: Path, column: str) -> None:
    pq.write_table(pq.read_table(path).drop_columns([column]), path)


def test_without_network_and_snapshot_the_data_set_and_the_way_out_are_named(tmp_path):
    with pytest.raises(
        UserError,
        match=r"'piqa' cannot read 'baber/piqa' from the Hub .*; go online, or fetch it with `iit-bench fetch piqa ",
    ):
        load_tasks(["piqa"], TaskOptions(), tmp_path)


def test_a_model_without_chat_template_and_one_without_raw_text_are_refused(save_tiny, options, run_with):
    bare = load_model(f"hf:{save_tiny('llama', chat_template=None)}", ModelOptions(device="cpu"))
    with pytest.raises(UserError, match="has no chat template; leave out --apply-chat-template"):
        run_with(bare, options("piqa", apply_chat_template=True))
    with pytest.raises(UserError, match="model 'majority' takes no raw text"):
        run_with(load_model("majority", ModelOptions()), options("piqa", fresh=True))


def test_the_random_baseline_chooses_at_chance_under_every_metric_and_cannot_write(options, run_with):
    random = load_model("random", ModelOptions(seed=1))
    results = run_with(random, options("iit_facts", limit=60, model="random"))
    for metric in ("acc", "acc_norm"):
        figure = results.tasks[0].scores[metric]
        assert figure.n == 360 and figure.low < 0.25 < figure.high
    with pytest.raises(UserError, match="model 'random' can only choose"):
        run_with(random, options("gsm8k", model="random", fresh=True))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gen_kwargs": "temperature"}, "not of the form NAME=VALUE"),
        ({"gen_kwargs": "do_sample=true"}, r"cannot generate with do_sample=True, temperature=0.0 \(.*\); give other .*--gen-kwargs"),
        ({"gen_kwargs": "temprature=0.5"}, r"cannot generate with .*temprature.*; give other settings with --gen-kwargs"),
        ({"limit": 0}, "--limit 0 is too low"),
        ({"blind": True}, "--blind removes images"),
        ({"max_new_tokens": 600}, "600 tokens are to be generated, and model .* takes 512"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(more, said, options):
    with pytest.raises(UserError, match=said):
        evaluate_text(options("gsm8k", **more), progress=False)

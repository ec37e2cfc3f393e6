"""Any task, group or tag of lm-eval by its name, and a user's own."""

from __future__ import annotations

import json

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evaluators.text.tasks import LONGEST_NAME, TaskOptions, load_tasks, suite_index
from iit_bench.errors import UserError
from iit_bench.tools.lm_eval.index import matched, whole_index


@pytest.mark.slow
def test_names_of_every_kind_mean_what_they_mean_to_lm_eval(tmp_path):
    """Our index of the folders that a name needs agrees with lm-eval's whole index."""
    lm_evals = whole_index()  # its TaskManager, 15,000 files: the one that other tests of this process have read too
    of_kind: dict[str, list[str]] = {}
    for name, entry in sorted(lm_evals.task_index.items()):
        of_kind.setdefault(entry.kind.name, []).append(name)
    assert {"TASK", "GROUP", "TAG"} <= set(of_kind)
    for names in of_kind.values():
        for name in names[:: max(1, len(names) // 3)]:
            manager = suite_index([name], None, tmp_path)
            assert matched([name], manager) == [name]
            theirs, ours = lm_evals.task_index[name], manager.task_index[name]
            assert (ours.kind, ours.cfg, sorted(ours.tags)) == (theirs.kind, theirs.cfg, sorted(theirs.tags)), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("ai2_arc", ["arc_challenge", "arc_easy"]),  # a tag
        ("arc_?asy", ["arc_easy"]),  # a pattern
        ("iit_facts_c*", ["iit_facts_capital", "iit_facts_continent", "iit_facts_currency"]),
    ],
)
def test_a_tag_and_a_pattern_stand_for_their_tasks(name, members, data_root, tmp_path):
    assert sorted(load_tasks([name], TaskOptions(data_root=data_root), tmp_path).loaded["tasks"]) == members


def _write_group(folder) -> None:
    """A group whose figure is the mean over its two tasks, of 2 and 5 documents, each task counting alike."""
    for name, n in (("few", 2), ("more", 5)):
        rows = [{"q": f"Say {name} {i}:", "choices": ["one", "two", "three"], "gold": i % 3} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": f"own_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "cache")},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "q",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    means = [{"metric": "acc", "aggregation": "mean", "weight_by_size": False}, {"metric": "acc_norm", "weight_by_size": True}]
    group = {"group": "own_group", "task": ["own_few", "own_more"], "aggregate_metric_list": means}
    (folder / "group.yaml").write_text(yaml.safe_dump(group))


@pytest.mark.slow
def test_a_users_group_has_the_figures_of_lm_evals_own_run(options, run_with, model, tmp_path):
    _write_group(tmp_path)
    results = run_with(model, options("own_group", include_path=tmp_path, data_root=None, limit=None, max_new_tokens=None))
    peer = HFLM(pretrained=model.model, tokenizer=model.tokenizer, max_length=model.context_limit)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = simple_evaluate(peer, tasks=["own_group"], task_manager=manager, bootstrap_iters=0)
    assert [one.task for one in results.tasks] == ["own_group", "own_few", "own_more"]
    for one in results.tasks:
        for metric, figure in one.scores.items():
            assert figure.value == pytest.approx(theirs["results"][one.task][f"{metric},none"], abs=1e-12)
            assert figure.low <= figure.value <= figure.high
    assert results.tasks[0].scores["acc"].value != results.tasks[0].scores["acc_norm"].value


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fold/words", "it has '/'; rename it"),
        ("../words", "it has '/'; rename it"),
        ("w" * 300, "it is 300 bytes long, and may be 200; rename it"),
        ("é" * 101, "it is 202 bytes long, and may be 200; rename it"),
    ],
)
def test_a_task_whose_name_no_file_can_have_is_refused_for_that(name: str, why: str, tmp_path) -> None:
    """Its samples were not written, without a word; `show` ended in an internal error, and a long name in one about another path."""
    task = {"task": name, "dataset_path": "json", "output_type": "multiple_choice", "doc_to_text": "q", "metric_list": [{"metric": "acc"}]}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(UserError) as error:
        load_tasks([name], TaskOptions(include_path=tmp_path), tmp_path / "scratch")
    words = str(error.value)
    assert words.startswith("lm-eval task '") and "lm-eval names a file after it" in words and why in words and len(words) < 300


def test_the_longest_name_is_that_of_a_file(tmp_path) -> None:
    file = tmp_path / f"samples_{'w' * LONGEST_NAME}_2026-11-30T22-05-03.698997.jsonl"
    file.write_text("")
    assert file.is_file()

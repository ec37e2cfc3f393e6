"""Configurations read without building a task, and splits: as lm-eval itself has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.api.task import ConfigurableTask

from iit_bench.tools.lm_eval.configs import configs_of, evaluated_split, fewshot_split, shown_split, splits_of
from iit_bench.tools.lm_eval.index import read_index

SPLITS = ("train", "validation", "test", "dev")


def test_a_group_overrides_its_tasks_and_functions_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("raise RuntimeError('was run')\n")
    (tmp_path / "base.yaml").write_text("dataset_path: some/set\nprocess_docs: !function code.rows\nnum_fewshot: 1\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}_task.yaml").write_text(f"include: base.yaml\ntask: own_{name}\ntag: own_tag\n")
    group = {"group": "own_group", "task": [{"task": "own_a", "num_fewshot": 5}, "own_b"], "test_split": "dev"}
    (tmp_path / "group.yaml").write_text(yaml.safe_dump(group))
    index = read_index(["own_group"], [tmp_path])
    configs = configs_of(["own_group"], index)
    assert {name: (one["num_fewshot"], one["test_split"]) for name, one in configs.items()} == {"own_a": (5, "dev"), "own_b": (1, "dev")}
    assert configs["own_a"]["dataset_path"] == "some/set"
    assert configs["own_a"]["process_docs"].endswith("code.rows")
    tagged = configs_of(["own_tag"], index)
    assert list(tagged) == ["own_a", "own_b"] and "test_split" not in tagged["own_a"]


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"test_split": "test"}, "test"),
        ({"validation_split": "validation"}, "validation"),
        ({"test_split": "test", "validation_split": "validation"}, "validation"),
        ({"test_split": "test", "training_split": "train", "validation_split": "validation"}, "train"),
        ({"test_split": "test", "training_split": "train", "fewshot_split": "dev"}, "dev"),
        ({"test_split": "test", "training_split": "train", "fewshot_config": {"split": "dev"}}, "dev"),
        ({"test_split": "test", "fewshot_config": {"sampler": "first_n", "samples": [{"q": "x", "a": "own"}]}}, None),
        ({"test_split": "test", "fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}, "dev"),
    ],
)
def test_splits_are_those_that_lm_eval_reads(config: dict[str, Any], shown: str | None, tmp_path: Path) -> None:
    files = {split: str(tmp_path / f"{split}.jsonl") for split in SPLITS}
    for split, path in files.items():
        Path(path).write_text("".join(json.dumps({"q": str(i), "a": split}) + "\n" for i in range(2)))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")}}
    form = {"task": "own", "output_type": "generate_until", "doc_to_text": "q", "doc_to_target": "a"}
    task = ConfigurableTask(
        config={**data, **form, **{key: dict(value) if key == "fewshot_config" else value for key, value in config.items()}}
    )
    assert evaluated_split(config) == task.eval_docs[0]["a"]
    assert (shown_split(config) or "own") == next(iter(task.fewshot_docs()))["a"]
    assert shown_split(config) == shown
    assert fewshot_split(config) == ("dev" if shown == "dev" else None)
    assert splits_of(config) == list(dict.fromkeys(split for split in (evaluated_split(config), shown) if split))

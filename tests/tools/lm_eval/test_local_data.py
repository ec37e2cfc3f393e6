"""A task's configuration over local snapshots: the same rows, refused if they are missing or were changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError
from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask

from iit_bench.data.fetched import FetchedFile, FetchedSet, save_sets
from iit_bench.errors import UserError
from iit_bench.storage.format import files_sha256
from iit_bench.tools.lm_eval.local_data import LocalTask, localised, readable, revisions_of

COMMIT = hashlib.sha1(b"a commit").hexdigest()
CONFIG = {
    "task": "own",
    "dataset_path": "owner/set",
    "dataset_name": "main",
    "test_split": "test",
    "training_split": "train",
    "output_type": "generate_until",
    "doc_to_text": "q",
    "doc_to_target": "a",
}


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A snapshot of owner/set with a test split of three rows and no train split."""
    folder = tmp_path / "root/owner/set/main"
    folder.mkdir(parents=True)
    (folder / "test.csv").write_text("q,a\none,None\ntwo,NA\nthree,3\n")
    return tmp_path / "root"


@pytest.fixture
def local(data_root: Path, tmp_path: Path) -> Any:
    """local(field=value …) → the configuration with these changes, over the snapshot."""

    def make(examples: int = 0, **changes: Any) -> LocalTask:
        return localised("own", {**CONFIG, **changes}, data_root=data_root, cache=tmp_path / "cache", examples=examples)

    return make


def test_lm_eval_reads_the_snapshots_rows(local: Any, data_root: Path) -> None:
    made = local()
    file = data_root / "owner/set/main/test.csv"
    assert (made.files, made.folder, made.revision) == ((file,), data_root / "owner/set", "")
    assert made.sha256 == files_sha256([file])
    task = ConfigurableTask(config=dict(made.config))
    assert [(doc["q"], doc["a"]) for doc in task.eval_docs] == [("one", "None"), ("two", "NA"), ("three", "3")]
    assert not task.has_training_docs()


def test_rows_that_changed_are_read_again_and_no_cache_of_the_user_is_used(local: Any, data_root: Path, tmp_path: Path) -> None:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    before = set(cache.rglob("*.arrow"))
    assert len(ConfigurableTask(config=dict(local().config)).eval_docs) == 3
    (data_root / "owner/set/main/test.csv").write_text("q,a\nfour,4\n")
    assert [doc["q"] for doc in ConfigurableTask(config=dict(local().config)).eval_docs] == ["four"]
    assert set(cache.rglob("*.arrow")) == before
    assert list((tmp_path / "cache").rglob("*.arrow"))


def test_the_split_of_examples_is_needed_only_if_some_are_shown(local: Any) -> None:
    made = local(fewshot_split="dev")
    assert made.config["fewshot_config"] == {"samples": [], "sampler": "first_n"} and made.config["fewshot_split"] is None
    with pytest.raises(UserError, match=r"'own' finds no parquet, json or csv file of split 'dev' of configuration 'main'"):
        local(examples=1, fewshot_split="dev")
    with pytest.raises(UserError, match="of split 'train'"):
        local(examples=1)


def test_a_missing_split_and_a_missing_snapshot_are_refused(local: Any) -> None:
    with pytest.raises(UserError, match="of split 'validation' of configuration 'main'"):
        local(test_split=None, validation_split="validation")
    with pytest.raises(UserError, match="lm-eval task 'own' needs the data set 'owner/other', and there is no folder"):
        local(dataset_path="owner/other")


def test_a_fetched_file_is_known_by_its_commit_and_refused_once_changed(local: Any, data_root: Path) -> None:
    file = data_root / "owner/set/main/test.csv"
    name = file.relative_to(data_root).as_posix()
    listed = FetchedFile(size=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), checked="sha256")
    of_set = FetchedSet(source="https://example.org", revision=COMMIT, ref="main", licence="mit", files={name: listed})
    save_sets(data_root, {"owner/set": of_set})
    assert local().revision == COMMIT
    file.write_text("q,a\nfour,4\n")
    with pytest.raises(UserError, match="was changed after it was fetched"):
        local()


def test_what_names_its_files_or_makes_its_data_stays_as_it_is_and_a_class_is_refused(local: Any, data_root: Path, tmp_path: Path) -> None:
    for own in ({"dataset_kwargs": {"data_files": {"test": "x.jsonl"}}}, {"custom_dataset": dict}):
        made = local(**own)
        assert made == LocalTask(config={**CONFIG, **own})
    with pytest.raises(UserError, match="is a Python class that reads its own data; leave out --data-root"):
        localised("own", {"task": "own"}, data_root=data_root, cache=tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("goal"), r"'own' cannot read 'owner/set' from .*root' \(KeyError: 'goal'\); check that its files are complete"),
        (UndefinedError("no goal"), r"\(UndefinedError: no goal\)"),
        (
            FileNotFoundError("no module script of this name"),
            "needs a metric that `evaluate` loads from the Hub .*; go online, or choose another",
        ),
    ],
)
def test_errors_over_data_are_one_sentence(error: Exception, said: str, data_root: Path) -> None:
    with pytest.raises(UserError, match=said) as caught, readable("own", "owner/set", data_root):
        raise error
    assert caught.value.__cause__ is error


def test_the_reason_of_datasets_own_error_is_its_cause_and_the_hub_is_named_without_a_data_root() -> None:
    with (
        pytest.raises(UserError, match=r"from the Hub \(ValueError: not a table\); go online, or fetch it with"),
        readable("own", "owner/set", None),
    ):
        raise DatasetGenerationError("An error occurred") from ValueError("not a\ntable")


def test_a_bug_and_an_error_of_ours_pass(data_root: Path) -> None:
    for error in (RuntimeError("a bug"), UserError("ours")):
        with pytest.raises(type(error), match=str(error)), readable("own", "owner/set", data_root):
            raise error


def test_the_commit_is_the_folder_that_datasets_keeps_its_files_in(tmp_path: Path) -> None:
    (tmp_path / COMMIT).mkdir()
    Dataset.from_dict({"q": ["one"]}).to_parquet(tmp_path / "x.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "x.parquet"), cache_dir=str(tmp_path / "cache"))
    assert revisions_of(SimpleNamespace(dataset=loaded)) == set()  # a builder of local files: no commit
    (file,) = loaded["train"].cache_files
    moved = tmp_path / COMMIT / "x.arrow"
    Path(file["filename"]).rename(moved)
    assert revisions_of(SimpleNamespace(dataset={"train": Dataset.from_file(str(moved))})) == {COMMIT}
    assert revisions_of(SimpleNamespace(dataset=None)) == set()

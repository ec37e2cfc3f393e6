from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.sources.base import SourceOptions, SourceQuestions, load_source
from builders.sources.lm_eval import _bare, _index_of
from iit_bench.errors import UserError

pytestmark = pytest.mark.slow

Load = Callable[[str], SourceQuestions]


@pytest.fixture
def load(snapshots: Path) -> Load:
    return lambda name: load_source(name, SourceOptions(data_root=snapshots))


def lm_eval_task(name: str, folder: str, **files: str) -> Any:
    """The task as lm-eval itself builds it, over the same files: the oracle."""
    import tempfile

    from lm_eval import tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    (path,) = Path(tasks.__file__).parent.glob(f"{folder}/{name}.yaml")
    config = {key: value for key, value in load_yaml(path, resolve_func=True).items() if key not in ("tag", "group")}
    kwargs = {"data_files": files, "cache_dir": tempfile.mkdtemp()}
    return ConfigurableTask(config=config | {"dataset_path": "parquet", "dataset_name": None, "dataset_kwargs": kwargs})


def test_questions_choices_and_answers_are_lm_evals_own(load: Load, snapshots: Path) -> None:
    for name, root in (("openbookqa", "allenai/openbookqa/main"), ("hellaswag", "Rowan/hellaswag/data")):
        files = {split: str(snapshots / root / f"{split}-00000-of-00001.parquet") for split in ("train", "validation", "test")}
        task = lm_eval_task(name, name, **files)
        source = load(f"lm-eval:{name}")
        docs = list(task.eval_docs)
        assert len(source.questions) == len(docs) == 40
        for made, doc in zip(source.questions, docs, strict=True):
            assert made.question == task.doc_to_text(doc).strip()
            assert list(made.choices) == [choice.strip() for choice in task.doc_to_choice(doc)]
            assert made.answer == int(task.doc_to_target(doc))


def test_the_evaluation_split_is_test_else_validation(load: Load) -> None:
    assert load("lm-eval:openbookqa").split == "test"
    assert load("lm-eval:hellaswag").split == "validation"


def test_letters_are_replaced_by_the_documents_options(load: Load, makers: dict[str, Any]) -> None:
    source = load("lm-eval:mmlu_anatomy")
    for i, made in enumerate(source.questions):
        assert made.question == makers["question"](i, "anatomy")  # without "A. … Answer:"
        assert list(made.choices) == makers["choices"](i)
        assert made.answer == i % 4
    chinese = load("lm-eval:cmmlu_arts").questions[2]
    assert (chinese.language, chinese.choices, chinese.answer_text) == ("zh", ("114", "115", "116", "117"), "117")


def test_provenance_licence_and_train_answers(load: Load, snapshots: Path) -> None:
    import hashlib

    mmlu = load("lm-eval:mmlu_anatomy")
    assert (mmlu.licence, mmlu.origin, mmlu.train_answers) == ("mit", "cais/mmlu", None)
    file = snapshots / "cais/mmlu/anatomy/test-00000-of-00001.parquet"
    assert mmlu.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    book = load("lm-eval:openbookqa")
    assert book.train_answers is not None
    assert sum(book.train_answers.overall.values()) == 40


def test_subjects_and_clusters_come_from_the_declared_fields(load: Load) -> None:
    source = load("lm-eval:hellaswag")
    assert {made.subject for made in source.questions} == {"wikihow", "activitynet"}
    clusters = [made.cluster for made in source.questions]
    assert clusters[0::2] == clusters[1::2]  # two questions from one video or article
    assert len(set(clusters)) == 20


def test_questions_about_one_passage_are_one_cluster(tmp_path: Path, makers: dict[str, Any]) -> None:
    passage = "This question refers to the following information.\nThe harbour froze.\n"
    rows = [
        {"question": f"{passage}What followed {i}?", "subject": "x", "choices": ["a1", "b2", "c3", "d4"], "answer": 0} for i in range(3)
    ]
    rows.append({"question": "What is alone?", "subject": "x", "choices": ["a1", "b2", "c3", "d4"], "answer": 1})
    makers["parquet"](tmp_path / "cais/mmlu/world_religions/test.parquet", rows)
    source = load_source("lm-eval:mmlu_world_religions", SourceOptions(data_root=tmp_path))
    clusters = [made.cluster for made in source.questions]
    assert len(set(clusters[:3])) == 1
    assert clusters[3] not in clusters[:3]


def test_a_snapshot_without_its_train_split_has_no_train_answers(tmp_path: Path, makers: dict[str, Any]) -> None:
    makers["openbookqa"](tmp_path, 4)
    (tmp_path / "allenai/openbookqa/main/train-00000-of-00001.parquet").unlink()
    source = load_source("lm-eval:openbookqa", SourceOptions(data_root=tmp_path))
    assert len(source.questions) == 4
    assert source.train_answers is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [(1, 1), ("1", 1), ("blue", 1), ([0, 1], "several correct answers"), ("", "no answer"), ("teal", "answer outside the choices")],
)
def test_a_target_may_be_a_position_or_a_text(target: Any, expected: int | str) -> None:
    assert _index_of(target, ["red", "blue"]) == expected


@pytest.mark.parametrize("choices", [["A", "B", "C", "D"], ["(a)", "(b)"], ["A.", "B."], ["1", "2", "3"], ["0", "1"]])
def test_bare_letters_are_distinguished_from_options(choices: list[str]) -> None:
    assert _bare(choices)
    assert not _bare([choices[0], *choices[:0:-1], "E"])
    assert not _bare(["yes", "no"])
    assert not _bare(["A"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("winogrande", "has contexts as choices"),
        ("gsm8k", "is of type 'generate_until', not multiple_choice"),
        ("piqa", "needs the data set 'baber/piqa', and there is no folder"),
        ("mmlu_virology", "finds no parquet, json or csv file of split 'test' of configuration 'virology'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(load: Load, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(f"lm-eval:{name}")
    assert "\n" not in str(caught.value)


def test_bare_letters_without_a_mapping_are_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iit_bench.tools.lm_eval.fields.FIELDS", ())
    with pytest.raises(UserError, match="'mmlu_anatomy' has bare letters as choices and no declared mapping"):
        load("lm-eval:mmlu_anatomy")


def test_a_corrupt_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "allenai/openbookqa/main/test.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 this is not a table")
    with pytest.raises(
        UserError,
        match=r"'openbookqa' cannot read 'allenai/openbookqa' from .*check that its files are complete and as published, or fetch it with",
    ):
        load_source("lm-eval:openbookqa", SourceOptions(data_root=tmp_path))


def test_a_declared_field_that_is_missing_is_one_sentence(tmp_path: Path, makers: dict[str, Any]) -> None:
    import pandas as pd

    makers["hellaswag"](tmp_path, 4)
    for file in tmp_path.rglob("*.parquet"):
        pd.read_parquet(file).drop(columns="source_id").to_parquet(file)
    with pytest.raises(UserError, match=r"'hellaswag' cannot read 'Rowan/hellaswag' .*source_id"):
        load_source("lm-eval:hellaswag", SourceOptions(data_root=tmp_path))


def test_an_edited_snapshot_gives_its_new_rows(tmp_path: Path, makers: dict[str, Any]) -> None:
    """`datasets` keys its cache of a local folder by the folder's name and would give back the old rows; its cache is not used at all."""
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    before = set(cache.rglob("*.arrow"))
    for rows in (5, 9):
        makers["openbookqa"](tmp_path, rows)
        assert len(load_source("lm-eval:openbookqa", SourceOptions(data_root=tmp_path)).questions) == rows
    assert set(cache.rglob("*.arrow")) == before

"""Faults of the builder's sources that were reported, one test each: what was wrong, and what is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.matching import make_matcher
from builders.sources.base import SourceOptions, load_source
from builders.sources.language import language_of
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import load_benchmark

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{words}}}}"
doc_to_choice: options
doc_to_target: gold
"""


@pytest.fixture
def own_task(tmp_path: Path) -> Callable[[str], Path]:
    """own_task(name) -> a folder with a task of this name in lm-eval's format, over a file of 12 documents."""

    def make(name: str) -> Path:
        docs = [{"words": f"What of metal{i}?", "options": [f"rust{i}", f"tin{i}", f"gold{i}"], "gold": i % 3} for i in range(12)]
        data = tmp_path / f"{name}.jsonl"
        data.write_text("\n".join(map(json.dumps, docs)) + "\n")
        folder = tmp_path / "tasks"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data))
        return folder

    return make


# ---------------------------------------------------------------- lm-eval tasks of one's own


@pytest.mark.slow
def test_a_task_of_ones_own_in_lm_evals_format_is_a_source(own_task: Callable[[str], Path], tmp_path: Path) -> None:
    """`build` had no --include-path, so that only lm-eval's own tasks could be sources."""
    out = tmp_path / "b"
    arguments = ["build", "--text", "lm-eval:metals", "--include-path", str(own_task("metals")), "--tiers", "T,TT", "--size", "6"]
    assert main([*arguments, "--out", str(out)]) == 0
    built = load_benchmark(out)
    assert built.manifest["sources"]["lm-eval:metals"]["usable"] == 12
    assert {q.question for q in built.questions.values()} <= {f"What of metal{i}?" for i in range(12)}
    assert all(
        q.answer_text == ("rust", "tin", "gold")[int(q.id.rsplit("/")[-1]) % 3] + q.id.rsplit("/")[-1] for q in built.questions.values()
    )


@pytest.mark.slow
def test_a_task_of_ones_own_is_not_read_by_the_fields_of_lm_evals_task_of_a_like_name(own_task: Callable[[str], Path]) -> None:
    """A task called mmlu_mine must not be read through the mapping that is declared for lm-eval's mmlu_*."""
    source = load_source("lm-eval:mmlu_mine", SourceOptions(include_path=own_task("mmlu_mine")))
    assert source.questions[1].choices == ("rust1", "tin1", "gold1")


@pytest.mark.slow
def test_an_include_path_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    """As in the text suite."""
    with pytest.raises(UserError, match=r"--include-path '.*lost' is not a folder; give one with lm-eval tasks"):
        load_source("lm-eval:metals", SourceOptions(include_path=tmp_path / "lost"))


@pytest.mark.slow
def test_the_data_files_of_a_task_of_ones_own_that_are_not_there_are_named(own_task: Callable[[str], Path], tmp_path: Path) -> None:
    """The sentence advised to go online and to fetch the data set 'json'."""
    folder = own_task("metals")
    (tmp_path / "metals.jsonl").unlink()
    with pytest.raises(UserError, match=r"'metals' cannot read its own data files \(.*metals\.jsonl.*; check the paths") as caught:
        load_source("lm-eval:metals", SourceOptions(include_path=folder))
    assert "\n" not in str(caught.value)
    assert "go online" not in str(caught.value)


# ---------------------------------------------------------------- VLMEvalKit's format, by path


def test_a_table_in_vlmevalkits_format_is_named_by_its_path(tmp_path: Path, makers: dict[str, Any]) -> None:
    """A table could only be named by its file's name, with --data-root for its folder; right: its path, from anywhere."""
    rows = [{"index": i, "question": f"What {i}?", "A": "one", "B": "two", "answer": "B"} for i in (1, 2)]
    makers["table"](tmp_path / "in/MINE.tsv", rows)
    source = load_source(f"vlmeval:{tmp_path}/in/MINE.tsv", SourceOptions())
    assert [q.id for q in source.questions] == [f"vlmeval:MINE/{row['index']}" for row in rows]  # the folder is in no id
    assert source.questions == load_source("vlmeval:MINE", SourceOptions(data_root=tmp_path / "in")).questions
    with pytest.raises(UserError, match=r"there is no table '.*LOST\.tsv'; check its path"):
        load_source(f"vlmeval:{tmp_path}/LOST.tsv", SourceOptions())


# ---------------------------------------------------------------- the language of a row


def test_the_language_is_the_rows_and_not_that_of_the_files_name(tmp_path: Path, makers: dict[str, Any]) -> None:
    """A file called …_CN.tsv made every row Chinese; right: the row's own language column, else the script of its words."""
    cells = {"A": "one", "B": "two", "answer": "A"}
    rows = [
        {"index": 1, "question": "What is shown?", **cells, "language": ""},
        {"index": 2, "question": "图中是什么？", **cells, "language": ""},
        {"index": 3, "question": "Was ist das?", **cells, "language": "de"},
        {"index": 4, "question": "Что это?", **cells, "language": "Russian"},  # no code of BCP 47
    ]
    makers["table"](tmp_path / "MINE_CN.tsv", rows)
    source = load_source(f"vlmeval:{tmp_path}/MINE_CN.tsv", SourceOptions())
    assert [q.language for q in source.questions] == ["en", "zh", "de", "ru"]


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("What does 好 mean?", "en", "en"),
        ("NASA 的全称是什么？", "en", "zh"),
        ("日本の首都はどこですか", "en", "ja"),
        ("한국의 수도는?", "en", "ko"),
        ("ما هي العاصمة؟", "en", "ar"),
        ("پایتخت ایران کجاست؟", "fa", "fa"),
        ("Яка столиця?", "uk", "uk"),
        ("Какая столица?", "en", "ru"),
        ("यह क्या है?", "en", "hi"),
        ("Başkent nedir?", "tr", "tr"),
        ("What is it?", "zh", "en"),
        ("12 + 7 = ?", "zh", "zh"),
        ("ญี่ปุ่นอยู่ที่ไหน", "en", "th"),
    ],
)
def test_a_script_decides_where_it_can(text: str, declared: str, expected: str) -> None:
    """Latin script decides nothing, so what is declared for the source holds there."""
    assert language_of(text, declared) == expected


# ---------------------------------------------------------------- sentences


def test_an_encoder_that_cannot_be_loaded_is_reported_to_the_end(tmp_path: Path) -> None:
    """The reason was cut at its first line end, in the middle of a sentence; right: whole sentences, on one line."""
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    save_file({"weight": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")  # a folder without one is refused before

    with pytest.raises((OSError, ValueError)) as theirs:
        AutoTokenizer.from_pretrained(str(tmp_path))
    assert "\n" in str(theirs.value).strip()  # or this test shows nothing
    with pytest.raises(UserError, match="is neither tfidf, none nor a text encoder") as caught:
        make_matcher(str(tmp_path), ["a text"])
    first_sentence = " ".join(str(theirs.value).split()).partition(". ")[0]
    assert "instantiate and convert" in first_sentence and first_sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_names_what_sources_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    """`build --help` named no file, data set or columns of one's own."""
    assert main(["build", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("--columns", "--answers", "--include-path", "--language", "hub:ORG/NAME", ".parquet"):
        assert word in shown

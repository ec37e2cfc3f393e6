"""Whoever reads a file of a run refuses another than the run wrote, in one sentence, and hashes each file once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evaluators.attention.table import Observed, ObservedDialogue, load_observed, save_observed
from evaluators.iit.results import summarise
from evaluators.runs.reading import load_run
from evaluators.show.task_words import TaskWords
from iit_bench.errors import UserError
from iit_bench.storage import run_files, runs
from iit_bench.storage.format import sha256_file
from iit_bench.storage.runs import PROMPTS, Run, load_run_header, save_finished_header, save_run_header, save_run_outcome
from iit_bench.storage.tables import table_bytes
from iit_bench.types import SeenPrompt, SuiteResults, TaskItem
from tests.reliability.borders import lines, lm_eval_sample
from tests.resealed import change
from tests.storage.test_folders import ERROR, predictions

MODEL = {"name": "x", "blind": False, "details": {}, "parameters": 12, "max_context": None}
HEADER = {"name": "r", "suite": "iit", "command": "iit-bench eval --model x", "seconds": 2.5, "resumed": 0, "model": MODEL}
HEADER |= {"benchmark": {"name": "lab", "tiers": {"T": 2, "V": 2}, "sources": {}}, "arguments": {}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run with prompts, as an evaluation leaves it."""
    folder = tmp_path / "run"
    save_run_header(folder, HEADER)
    rows = predictions()
    (folder / PROMPTS).write_bytes(table_bytes(SeenPrompt, [SeenPrompt("T:a", 0, "Which?", (), "0" * 64)]))
    save_run_outcome(folder, rows, summarise(rows, {"V": "no images"}, True, ("T", "V")), [ERROR])
    save_finished_header(folder, load_run_header(folder))
    return folder


def other_prompts(path: Path) -> None:
    path.write_bytes(table_bytes(SeenPrompt, [SeenPrompt("T:a", 0, "What?", (), "0" * 64)]))


def test_files_as_they_were_written_are_read(folder: Path) -> None:
    run = load_run(folder, "iit")
    assert not run.unsealed and run.prompt_columns()["prompt"].to_pylist() == ["Which?"]


def test_results_of_another_run_are_refused_though_their_own_checksums_hold(folder: Path) -> None:
    rows = predictions()[:1]
    save_run_outcome(folder, rows, summarise(rows, {}, True, ("T",)), [])  # table, errors and results, each with its own
    with pytest.raises(UserError, match=r"results\.json' is not the file that this run wrote .* repeat its command: iit-bench eval"):
        load_run(folder)


def test_errors_of_another_run_are_refused(folder: Path, tmp_path: Path) -> None:
    save_run_outcome(tmp_path / "other", predictions(), summarise(predictions(), {}, True, ("T", "V")), [])
    shutil.copy(tmp_path / "other" / "errors.jsonl", folder / "errors.jsonl")
    with pytest.raises(UserError, match=r"errors\.jsonl' is not the file that this run wrote"):
        load_run(folder)


@pytest.mark.parametrize(
    ("damage", "words"), [(other_prompts, "is not the file that this run wrote"), (Path.unlink, "is missing, which this run wrote")]
)
def test_changed_and_missing_prompts_are_refused(folder: Path, damage: Any, words: str) -> None:
    damage(folder / PROMPTS)
    with pytest.raises(UserError, match=words):
        load_run(folder, "iit").prompt_columns()


def test_prompts_that_the_run_did_not_write_are_refused(folder: Path) -> None:
    (folder / PROMPTS).unlink()
    save_finished_header(folder, load_run_header(folder))
    assert load_run(folder, "iit").prompt_columns() is None
    other_prompts(folder / PROMPTS)
    with pytest.raises(UserError, match="is not a file that this run wrote"):
        load_run(folder, "iit").prompt_columns()


def test_a_file_is_hashed_once_however_often_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    for module in (runs, run_files):
        monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path.name) or sha256_file(path))
    run = load_run(folder, "iit")
    for _ in range(3):
        run.prompt_columns()
        run.prediction_columns(("dialogue",))
    assert sorted(hashed) == ["errors.jsonl", "predictions.parquet", PROMPTS, "results.json"]


def test_a_folder_without_hashes_of_its_files_is_read_and_unsealed(folder: Path) -> None:
    whole = load_run(folder, "iit").results
    change(folder / "run.json", lambda body: body.pop("files"))
    other_prompts(folder / PROMPTS)
    run = load_run(folder, "iit")
    assert run.unsealed and run.sealed and run.results == whole
    assert run.prompt_columns()["prompt"].to_pylist() == ["What?"]


@pytest.mark.parametrize(
    ("suite", "file"), [("text", "lm_eval/results_2026-01-01T00-00-00.000000.json"), ("vqa", "vlmeval/a/main/m_a.tsv")]
)
def test_another_tools_files_in_a_run_are_compared_before_they_are_shown(tmp_path: Path, suite: Any, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("index\tquestion\n1\tWhich?\n" if suite == "vqa" else "{}")
    if suite == "text":
        path = path.with_name("samples_a_2026-01-01T00-00-00.000000.jsonl")
        path.write_text(lines(lm_eval_sample(1)))
    results = SuiteResults(suite=suite, complete=True, outcomes={}, tasks=())
    header = {"suite": suite, "files": {path.relative_to(tmp_path).as_posix(): sha256_file(path)}}
    item = TaskItem("a", "1", "1", "acc", 1.0, "correct", "x")
    assert TaskWords(Run(path=tmp_path, run=header, results=results)).asked(item).turns == ("Which?",)
    path.write_text(path.read_text().replace("Which", "What"))
    with pytest.raises(UserError, match="is not the file that this run wrote"):
        TaskWords(Run(path=tmp_path, run=header, results=results)).asked(item)


def test_a_changed_row_of_observed_attention_is_refused(tmp_path: Path) -> None:
    """Pages and metadata of the table have checksums of their own; that a row was changed, only a hash of the rows tells."""
    counts = dict.fromkeys(("n_before", "n_image", "n_between", "n_after"), 1)
    curves = {"layers": (0, 1), "before": (0.1, 0.2), "image": (0.3, 0.3), "between": (0.1, 0.1), "after": (0.5, 0.4)}
    row = ObservedDialogue(dialogue="TV:a", tier="TV", group="a", cluster="c", history_clusters=("d",), **counts, **curves)
    path = tmp_path / "attention.parquet"
    save_observed(path, Observed({"name": "x"}, [row]))
    assert load_observed(path).rows == [row]
    table = pq.read_table(path)
    column = table.schema.get_field_index("n_image")
    pq.write_table(table.set_column(column, table.schema.field(column), [[2]]), path, write_page_checksum=True)
    with pytest.raises(UserError, match="the sha256 of its rows differs"):
        load_observed(path)


def test_metadata_of_observed_attention_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """The trial of damage found it: one flipped byte, and the report ended as a bug."""
    path = tmp_path / "attention.parquet"
    save_observed(path, Observed({"name": "x"}, []))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(dict(table.schema.metadata) | {b"iit-bench/attention": b"\xbb"}), path)
    with pytest.raises(UserError, match="is not a readable parquet table of ObservedDialogue records"):
        load_observed(path)

"""What several processes have logged becomes one run, by hand and without the model."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.runs.header import run_identity
from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.engine.lines import Failure, entry_line, header_line
from iit_bench.engine.log import ResponseLog
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run, load_run_header
from iit_bench.workflows.merging import merge
from iit_bench.workflows.verifying import verify
from tests.full_disk import files_of_at_most
from tests.held_folder import held_elsewhere

OUTCOME = ("predictions.parquet", "results.json", "errors.jsonl")


@pytest.fixture
def whole(bench, tmp_path) -> Path:
    """A finished run of one process."""
    evaluate(RunOptions(model="random", bench=bench.path, out=tmp_path / "whole", limit=4, tiers=("T", "TV", "V")), progress=False)
    return tmp_path / "whole"


@pytest.fixture
def shards(whole, tmp_path) -> Path:
    """The same run as three processes leave it that died before they wrote results."""
    folder = tmp_path / "shards"
    folder.mkdir()
    shutil.copy(whole / "run.json", folder)
    lines = (whole / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "responses.jsonl").write_bytes(lines[0])
    for number in range(3):
        first = header_line(run_identity(load_run_header(folder)))
        (folder / f"responses.rank-{number}.jsonl").write_bytes(first + b"".join(lines[1 + number :: 3]))
    return folder


def test_merged_results_have_the_bytes_of_an_undivided_run(whole, shards, capsys):
    assert main(["merge", str(shards)]) == 0
    assert "the results are written" in capsys.readouterr().out
    for name in OUTCOME:
        assert (shards / name).read_bytes() == (whole / name).read_bytes()
    assert not list(shards.glob("*rank*"))
    with ResponseLog(shards / "responses.jsonl") as merged, ResponseLog(whole / "responses.jsonl") as log:
        assert merged.responses == log.responses


def test_what_a_dead_process_has_not_answered_is_counted_and_answered_on_resuming(whole, shards, bench, capsys):
    lost = shards / "responses.rank-1.jsonl"
    lines = lost.read_bytes().splitlines(keepends=True)
    key = "no request of this run"
    lost.write_bytes(b"".join(lines[:2]) + entry_line(key, Failure("item", "unreadable image", "truncated")))
    assert main(["merge", str(shards)]) == 1
    assert "1 item has none; to complete it, repeat: iit-bench eval" in capsys.readouterr().out
    found = load_run(shards, "iit")
    assert {error["reason"] for error in found.errors} == {"not answered"}
    assert len(found.errors) == found.results.outcomes["error"] >= len(lines) - 2
    evaluate(RunOptions(model="random", bench=bench.path, out=shards, limit=4, tiers=("T", "TV", "V")), progress=False)
    assert (shards / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()


def test_a_failure_that_a_process_noted_is_that_of_the_merged_run(whole, shards):
    path = shards / "responses.rank-2.jsonl"
    first, line, *rest = path.read_bytes().splitlines(keepends=True)
    key = line.partition(b'"key":"')[2][:64].decode()
    path.write_bytes(first + entry_line(key, Failure("item", "unreadable image", "truncated")) + b"".join(rest))
    results = merge(shards).results
    assert results is not None and results.complete
    assert {(error["kind"], error["reason"]) for error in load_run(shards, "iit").errors} == {("item", "unreadable image")}


@pytest.mark.parametrize("of", ["1", "2"])
def test_answers_of_processes_that_sealed_no_lines_stay_counted_after_merging_and_resuming(of, shards, bench, monkeypatch):
    bare = 0
    for path in shards.glob("responses.rank-[01].jsonl"):
        head, *lines = ({name: value for name, value in json.loads(line).items() if name != "check"} for line in path.open())
        path.write_text("".join(json.dumps(line) + "\n" for line in ({**head, "version": 1}, *lines)))
        bare += len(lines)
    merge(shards)
    assert load_run_header(shards)["unchecked_answers"] == bare > 0
    assert not verify([shards])[0].sealed
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", of)
    evaluate(RunOptions(model="random", bench=bench.path, out=shards, limit=4, tiers=("T", "TV", "V")), progress=False)
    assert load_run_header(shards)["unchecked_answers"] == bare
    assert load_run(shards, "iit").unsealed


def _merged(folder: Path, queue) -> None:
    try:
        queue.put(merge(folder).answers)
    except UserError as error:
        queue.put(str(error))


def test_of_two_merges_at_once_one_is_done_or_both_find_the_same(whole, shards):
    queue = multiprocessing.get_context("fork").Queue()
    merges = [multiprocessing.get_context("fork").Process(target=_merged, args=(shards, queue)) for _ in range(2)]
    for process in merges:
        process.start()
    found = [queue.get(timeout=300) for _ in merges]
    for process in merges:
        process.join()
    answers = len((whole / "responses.jsonl").read_bytes().splitlines()) - 1
    assert answers in found
    assert all(one == answers or "another process is writing" in one for one in found)
    merge(shards)
    assert (shards / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()


def test_a_run_in_which_a_process_works_is_not_merged(shards):
    with ResponseLog(shards / "responses.jsonl"), pytest.raises(UserError, match="another process is writing"):
        merge(shards)
    assert len(list(shards.glob("*rank*"))) == 3


def test_a_merge_beside_an_evaluation_by_several_processes_is_told_one_of_them(shards):
    before = sorted(path.name for path in shards.iterdir())
    with held_elsewhere(shards, "shared") as other, pytest.raises(UserError, match=rf"\(process {other.pid} on .*; wait for it, or end it"):
        merge(shards)
    assert sorted(path.name for path in shards.iterdir() if path.name != ".lock") == before


def test_the_lock_of_a_process_that_was_killed_is_in_nobodys_way(shards):
    with held_elsewhere(shards, "shared") as other:
        other.kill()
        other.wait()
        assert (shards / ".lock").is_file()
        assert merge(shards).results is not None
    assert not (shards / ".lock").exists()


def test_a_merge_on_a_full_disk_is_one_sentence_loses_nothing_and_goes_on(whole, shards, capsys):
    kept = {path.name: path.read_bytes() for path in shards.iterdir()}
    for size in (0, 50, len(kept["responses.rank-0.jsonl"])):
        with files_of_at_most(size):
            assert main(["merge", str(shards)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("iit-bench: cannot write ") and "free some space" in error and error.count("\n") == 1, error
        now = {path.name: path.read_bytes() for path in shards.iterdir()}
        assert now.pop("responses.jsonl").startswith(kept["responses.jsonl"])  # to which whole lines are moved
        assert now == {name: data for name, data in kept.items() if name != "responses.jsonl"}
    assert main(["merge", str(shards)]) == 0
    assert all((shards / name).read_bytes() == (whole / name).read_bytes() for name in OUTCOME)

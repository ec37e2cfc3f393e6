"""Logs of several processes on one run: pieces of work are theirs by locks, lines are sealed, what does not belong together is refused."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_bench.engine import held
from iit_bench.engine.lines import Failure, entry_line, header_line
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.shares import SharedLog, rank_logs, set_aside
from iit_bench.errors import OthersAtWork, UserError
from iit_bench.models.contract import ScoreResult
from iit_bench.ranks import Rank

ONE, OTHER = (ScoreResult((p,), (1,), (True,), 3) for p in (-0.25, -0.5))
FAILED = Failure("item", "unreadable image", "truncated")
RUN = "0123456789abcdef"
PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True, params=[held.MOST_IN_MEMORY, 1])
def most_in_memory(request, monkeypatch) -> None:
    """All answers in memory, and all but one found in their lines."""
    monkeypatch.setattr(held, "MOST_IN_MEMORY", request.param)


def opened(folder: Path, number: int = 0, of: int = 2, run: str = RUN) -> SharedLog:
    return SharedLog(folder, Rank(number=number, of=of), lambda log, only: run)


@pytest.fixture
def elsewhere(tmp_path):
    """elsewhere(function) → what the function returns in another process that has the log open, as rank 1 of 2."""

    def call(function: Callable[[SharedLog], Any]) -> Any:
        def work(queue) -> None:
            try:
                with opened(tmp_path, 1) as log:
                    queue.put(function(log))
            except UserError as error:
                queue.put(str(error))

        queue = PROCESSES.Queue()
        process = PROCESSES.Process(target=work, args=(queue,))
        process.start()
        found = queue.get(timeout=300)
        process.join()
        return found

    return call


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_piece_that_another_process_has_is_not_given_and_its_answers_are_read_afterwards(tmp_path, elsewhere):
    with opened(tmp_path) as log:
        assert log.take(["a", "b"])
        assert elsewhere(lambda other: other.take(["a", "b"])) is False
        log.append({"a": ONE})
        log.note({"b": FAILED})
        log.release(["a", "b"])
        assert elsewhere(lambda other: (other.take(["a", "b"]), dict(other.responses), other.failures)) == (True, {"a": ONE}, {"b": FAILED})


def test_a_process_hears_what_another_logs_while_it_works(tmp_path, elsewhere):
    heard = []
    with opened(tmp_path) as log:
        log.heard = heard.extend
        elsewhere(lambda other: other.append({"a": ONE}))
        assert log.responses == {}
        log.take(["b"])
        assert log.responses == {"a": ONE}
        assert heard == ["a"]


def test_the_last_process_moves_all_answers_into_one_log_and_failures_are_asked_again(tmp_path, elsewhere):
    with opened(tmp_path) as log:
        log.append({"a": ONE})
        elsewhere(lambda other: (other.append({"b": OTHER}), other.note({"c": FAILED})))
        assert len(rank_logs(tmp_path)) == 2
    assert rank_logs(tmp_path) == []
    with ResponseLog(tmp_path / "responses.jsonl") as whole:
        assert whole.responses == {"a": ONE, "b": OTHER}
        assert whole.failures == {}
    assert [line.get("key") for line in lines(tmp_path / "responses.jsonl")] == [None, "a", "b"]


def test_only_one_process_writes_the_results(tmp_path, elsewhere):
    def finish(log: SharedLog) -> str:
        try:
            log.finish()
        except OthersAtWork:
            return "elsewhere"
        return "here"

    with opened(tmp_path) as log:
        assert finish(log) == "here"
        assert elsewhere(finish) == "elsewhere"


def test_a_process_alone_and_several_processes_keep_each_other_out(tmp_path, elsewhere):
    with ResponseLog(tmp_path / "responses.jsonl"):
        assert "another process is writing" in elsewhere(lambda other: "opened")
    with opened(tmp_path), pytest.raises(UserError, match="another process is writing"):
        ResponseLog(tmp_path / "responses.jsonl")


def test_processes_of_one_rank_have_logs_of_their_own(tmp_path):
    with opened(tmp_path) as first:
        other = multiprocessing.get_context("fork").Queue()

        def work() -> None:
            with opened(tmp_path) as second:
                other.put(second.own_path.name)

        process = PROCESSES.Process(target=work)
        process.start()
        assert {first.own_path.name, other.get(timeout=300)} == {"responses.rank-0.jsonl", "responses.rank-1.jsonl"}
        process.join()


@pytest.mark.parametrize("of", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_every_rank_goes_through_the_whole_plan_beginning_with_a_block_of_its_own(tmp_path, of, count):
    orders = []
    for number in range(of):
        with opened(tmp_path, number, of) as log:
            orders.append(log.order(count))
    assert all(sorted(order) == list(range(count)) for order in orders)
    if count >= of:
        firsts = [order[0] for order in orders]
        assert sorted(set(firsts)) == firsts  # all begin at different places


# ---------------------------------------------------------------- what may lie in a folder


def shard(folder: Path, number: int, *entries: tuple[str, Any], run: str = RUN) -> Path:
    path = folder / f"responses.rank-{number}.jsonl"
    path.write_bytes(header_line(run) + b"".join(entry_line(key, outcome) for key, outcome in entries))
    return path


def shard_of_version_1(folder: Path, number: int, *entries: tuple[str, Any]) -> Path:
    """A shard whose lines have no checksums."""
    path = shard(folder, number, *entries)
    head, *rest = ({name: value for name, value in line.items() if name != "check"} for line in lines(path))
    path.write_text("".join(json.dumps(line) + "\n" for line in ({**head, "version": 1}, *rest)))
    return path


def test_answers_without_a_checksum_are_counted_by_every_process_also_after_they_were_moved(tmp_path, elsewhere):
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.append({"z": ONE})
    shard_of_version_1(tmp_path, 3, ("a", ONE), ("b", OTHER), ("f", FAILED))
    with opened(tmp_path) as log:
        assert (log.unchecked, elsewhere(lambda other: set(other.unchecked))) == ({"a", "b"}, {"a", "b"})
        shard_of_version_1(tmp_path, 4, ("c", ONE), ("a", ONE))  # of a process that is at work, or was killed just now
        assert log.take(["d"])
        log.append({"d": ONE})
        assert log.unchecked == {"a", "b", "c"}
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        assert (set(log.responses), log.unchecked) == ({"z", "a", "b", "c", "d"}, {"a", "b", "c"})


def test_a_process_alone_counts_the_answers_without_a_checksum_that_it_moves_also_the_next_time(tmp_path):
    shards = [shard_of_version_1(tmp_path, 0, ("a", ONE), ("f", FAILED)), shard(tmp_path, 1, ("b", ONE))]
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.absorb(shards)
        assert log.unchecked == {"a"}
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        assert (set(log.responses), log.unchecked) == ({"a", "b"}, {"a"})


def test_a_shard_of_another_run_is_kept_aside_and_not_read(tmp_path, capsys):
    stale = shard(tmp_path, 0, ("a", ONE), run="f" * 16)
    with opened(tmp_path) as log:
        assert log.responses == {}
        assert log.own_path == stale
    assert lines(stale.with_suffix(".stale"))[1]["key"] == "a"
    assert "holds answers of another run" in capsys.readouterr().err


def test_a_torn_line_of_a_dead_rank_is_dropped_and_the_lines_before_it_are_kept(tmp_path):
    path = shard(tmp_path, 5, ("a", ONE), ("b", OTHER))
    path.write_bytes(path.read_bytes()[:-9])
    with opened(tmp_path) as log:
        assert log.responses == {"a": ONE}


def test_equal_answers_in_several_logs_are_one_answer(tmp_path):
    shard(tmp_path, 3, ("a", ONE), ("a", ONE))
    shard(tmp_path, 4, ("b", OTHER), ("a", ONE))
    with opened(tmp_path) as log:
        assert log.responses == {"a": ONE, "b": OTHER}
    assert [line.get("key") for line in lines(tmp_path / "responses.jsonl")] == [None, "a", "b"]


def test_contradicting_answers_are_refused_with_file_and_line(tmp_path):
    shard(tmp_path, 3, ("a", ONE))
    shard(tmp_path, 4, ("b", ONE), ("a", OTHER))
    said = r"line 3 of '.*rank-4.jsonl' and line 2 of responses.rank-3.jsonl answer one request differently"
    with pytest.raises(UserError, match=said):
        opened(tmp_path)
    assert len(rank_logs(tmp_path)) == 2


def test_a_changed_digit_is_found_and_named_by_file_and_line(tmp_path):
    path = shard(tmp_path, 3, ("a", ONE), ("b", OTHER))
    path.write_bytes(path.read_bytes().replace(b"-0.25", b"-0.35"))
    with pytest.raises(UserError, match=r"rank-3.jsonl' is damaged in line 2 \(its checksum is wrong\)"):
        opened(tmp_path)


def test_an_interrupted_merge_is_repeated_without_harm(tmp_path):
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.append({"a": ONE})  # the answer was moved, the shard not yet removed
    shard(tmp_path, 0, ("a", ONE), ("b", OTHER))
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.absorb(set_aside(tmp_path, RUN))
        assert log.responses == {"a": ONE, "b": OTHER}
    assert [line.get("key") for line in lines(tmp_path / "responses.jsonl")] == [None, "a", "b"]
    assert rank_logs(tmp_path) == []

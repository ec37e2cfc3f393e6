"""Answers of a log beyond those in memory: found in their lines, whatever became of the file, and no memory grows with them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from iit_bench.engine import held, lines
from iit_bench.engine.held import HeldAnswers, HeldKeys, Place
from iit_bench.engine.log import ResponseLog
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, ScoreResult

ANSWERS = {
    f"key {i}": ScoreResult((-0.5 - i, -1.0), (1, 2), (True, False), 17) if i % 2 else GenerateResult("ü" * i, 17, i) for i in range(9)
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of nine answers, of which three will be in memory."""
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 3)
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.append(dict(list(ANSWERS.items())[:4]))
        log.append(dict(list(ANSWERS.items())[4:]))
        assert log.responses == ANSWERS
    return log.path


def test_answers_are_found_in_their_lines_in_the_order_of_the_log(path: Path) -> None:
    with ResponseLog(path) as log:
        assert len(log.responses) == len(ANSWERS)
        assert list(log.responses.items()) == list(ANSWERS.items())
        assert list(log.responses.each()) == list(ANSWERS.values())
        assert log.responses.get("key 9") is None and "key 9" not in log.responses
        with pytest.raises(KeyError):
            log.responses["key 9"]


def test_an_answer_that_is_logged_is_not_logged_again(path: Path) -> None:
    before = path.read_bytes()
    with ResponseLog(path) as log:
        log.append({"key 8": ANSWERS["key 1"]})
        assert log.responses["key 8"] == ANSWERS["key 8"]
    assert path.read_bytes() == before


def test_lines_that_contradict_each_other_are_named(path: Path) -> None:
    path.write_bytes(path.read_bytes() + lines.entry_line("key 8", ANSWERS["key 7"]))
    with pytest.raises(UserError, match=r"contradicts itself: line 11 and line 10 of responses\.jsonl answer one request differently"):
        ResponseLog(path)


def test_answers_of_a_rank_are_found_after_its_log_was_moved_and_removed(path: Path) -> None:
    shard = path.rename(path.with_name("responses.rank-0.jsonl"))
    with ResponseLog(path) as log:
        log.append({"key 0": ANSWERS["key 0"], "own": ANSWERS["key 1"]})
        log.absorb([shard])
        assert not shard.exists()
        assert log.responses == ANSWERS | {"own": ANSWERS["key 1"]}
    with ResponseLog(path) as log:
        assert log.responses == ANSWERS | {"own": ANSWERS["key 1"]}


@pytest.mark.parametrize("change", [lambda data: data.replace(b'"new_tokens":8', b'"new_tokens":7'), lambda data: data[:-3]])
def test_a_log_that_is_changed_while_it_is_in_use_is_refused(path: Path, change) -> None:
    with ResponseLog(path) as log:
        assert log.responses["key 8"] == ANSWERS["key 8"]
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(UserError, match="was changed while it was in use"):
            log.responses["key 8"]


def test_without_room_for_the_table_one_sentence_says_where_to_make_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 0)
    keys = HeldKeys()
    keys.add("a")
    keys._others._run("PRAGMA max_page_count = 1")  # type: ignore[union-attr] # what a full disk is to SQLite
    with pytest.raises(UserError, match=r"cannot be kept in a temporary file .*set TMPDIR"):
        for i in range(1000):
            keys.add("a long key" * 100 + str(i))


def test_keys_are_a_set_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 1)
    keys = HeldKeys()
    for key in ("a", "b", "c", "b", "a"):
        keys.add(key)
    assert keys == {"a", "b", "c"}
    assert (len(keys), list(keys)[1:], "c" in keys, "d" in keys) == (3, ["b", "c"], True, False)
    keys.close()


def test_more_answers_than_a_page_of_the_table_are_gone_through_while_others_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 10)
    answers = HeldAnswers()
    (tmp_path / "log").write_bytes(b"")
    for i in range(2500):
        answers.put(f"key {i}", ANSWERS["key 1"], Place(tmp_path / "log", i, 1))
    seen = iter(answers)
    first = [next(seen) for _ in range(500)]
    answers.put("late", ANSWERS["key 1"], Place(tmp_path / "log", 0, 1))
    assert [*first, *seen] == [*(f"key {i}" for i in range(2500)), "late"]
    answers.close()


def peak_of_opening(path: Path) -> int:
    """Bytes that Python held at most while a log was opened and all its answers were gone through."""
    tracemalloc.start()
    try:
        with ResponseLog(path) as log:
            assert sum(one.prompt_tokens > 0 for one in log.responses.each()) == len(log.responses)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(lines, "_BLOCK", 10_000)
    peaks = []
    for count in (2000, 8000):
        with ResponseLog(tmp_path / f"{count}.jsonl") as log:
            log.append({f"request {i}": ANSWERS["key 1"] for i in range(count)})
        peaks.append(peak_of_opening(log.path))
    assert peaks[1] < 1.1 * peaks[0]

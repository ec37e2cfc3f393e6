"""The response log: what was logged is there after a crash, a torn end is dropped, damage is reported, two writers are kept apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from iit_bench.engine import lines
from iit_bench.engine import log as logs
from iit_bench.engine.lines import entry_line, header_line
from iit_bench.engine.log import ResponseLog
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, ScoreResult

SCORE = ScoreResult((-0.1, -2.0000000000000004), (1, 3), (True, False), 17)
REPLY = GenerateResult("tête-à-tête\u2028\nand more", 17, 4)


@pytest.fixture
def path(tmp_path) -> Path:
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        log.append({"a": SCORE, "b": REPLY})
        log.append({"c": SCORE})
    return log.path


def test_logged_answers_are_read_back_equal(path):
    with ResponseLog(path) as log:
        assert log.responses == {"a": SCORE, "b": REPLY, "c": SCORE}
    assert len(path.read_bytes().splitlines()) == 4  # header and three answers: a reply with line breaks is one line


def test_key_that_is_logged_already_keeps_its_answer(path):
    before = path.read_bytes()
    with ResponseLog(path) as log:
        log.append({"a": REPLY})
        assert log.responses["a"] == SCORE
    assert path.read_bytes() == before


def test_log_cut_at_any_byte_keeps_the_whole_lines_before(path):
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for cut in sorted({*range(0, len(data), 5), *ends, *(end - 1 for end in ends)}):
        path.write_bytes(data[:cut])
        with ResponseLog(path) as log:
            whole = max(sum(end <= cut for end in ends) - 1, 0)  # the first line is the header
            assert list(log.responses) == ["a", "b", "c"][:whole]
            log.append({"z": SCORE})
        with ResponseLog(path) as log:
            assert list(log.responses) == [*["a", "b", "c"][:whole], "z"]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"key": "b"}', b'{"key": "b", "kind": "dream"}', b'{"key": "b", "kind": "score"}', b"\xff"]
)
def test_damaged_line_in_the_middle_is_refused(path, line):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = line + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"damaged in line 3 .* start over with --fresh"):
        ResponseLog(path)
    with ResponseLog(path, fresh=True) as log:
        assert log.responses == {}


@pytest.mark.parametrize("header", [{"format": "other", "version": 1}, {"format": "iit-bench/responses", "version": 3}, {"name": "x"}])
def test_foreign_log_is_refused(tmp_path, header):
    path = tmp_path / "responses.jsonl"
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(UserError, match="damaged in line 1"):
        ResponseLog(path)


def test_every_line_is_sealed_by_the_first_digits_of_its_sha256(path):
    for line in path.read_bytes().splitlines():
        body, _, seal = line.rpartition(b',"check":"')
        assert seal == hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
        assert json.loads(line) == json.loads(body + b"}") | {"check": seal[:-2].decode()}


def test_a_changed_answer_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"and more", b"and less"))
    with pytest.raises(UserError, match=r"damaged in line 3 \(its checksum is wrong\)"):
        ResponseLog(path)


def test_a_last_line_that_is_whole_but_damaged_is_asked_again(path):
    """After a power failure a file may have its length before its content."""
    data = path.read_bytes()
    path.write_bytes(data[:-60] + b"\0" * 59 + b"\n")
    with ResponseLog(path) as log:
        assert list(log.responses) == ["a", "b"]


def test_a_line_without_its_checksum_is_refused(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].partition(b',"check"')[0] + b"}\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"damaged in line 2 \(its checksum is missing\)"):
        ResponseLog(path)


def test_two_answers_to_one_request_are_refused_with_their_lines(path):
    whole = path.read_bytes()
    path.write_bytes(whole + entry_line("a", SCORE))  # the same answer twice is one answer
    with ResponseLog(path) as log:
        assert log.responses["a"] == SCORE
    path.write_bytes(whole + entry_line("b", SCORE) + entry_line("d", SCORE))
    with pytest.raises(UserError, match=r"contradicts itself: line 5 and line 3 of responses.jsonl answer one request differently"):
        ResponseLog(path)


def test_of_a_long_log_a_block_at_a_time_is_in_memory_and_every_line_is_parsed_once(tmp_path, monkeypatch):
    path = tmp_path / "responses.jsonl"
    long = GenerateResult("x" * 20_000, 17, 4)
    with ResponseLog(path) as log:
        log.append({f"request {i}": long if i % 2 else SCORE for i in range(400)})
    opened, blocks = [], []
    parse, block = lines.opened_line, lines.LogReader._block
    monkeypatch.setattr(lines, "opened_line", lambda line: opened.append(line) or parse(line))
    monkeypatch.setattr(lines.LogReader, "_block", lambda *arguments: blocks.append(block(*arguments)) or blocks[-1])
    monkeypatch.setattr(lines, "_BLOCK", 10_000)  # less than a line
    with ResponseLog(path) as log:
        assert len(log.responses) == 400
        assert log.responses["request 7"] == long
    data = path.read_bytes()
    assert b"".join(blocks) == data  # one pass over the file
    assert max(map(len, blocks)) <= 10_000
    assert b"".join(line + b"\n" for line in opened) == data


def test_counts_and_marks_that_are_read_keep_their_types(tmp_path):
    path = tmp_path / "responses.jsonl"
    with ResponseLog(path) as log:
        log.append({"a": ScoreResult((-0.5, -1.0), (1, 1), (True, True), 17)})
    with ResponseLog(path) as log:
        read = log.responses["a"]
    assert [type(one) for one in (*read.tokens, *read.greedy)] == [int, int, bool, bool]
    assert not hasattr(read, "__dict__")


def test_entries_are_given_before_the_rest_of_the_log_is_read(path, monkeypatch):
    monkeypatch.setattr(lines, "_BLOCK", 1)
    reader = lines.LogReader(path)
    assert next(reader.entries()).key == "a"
    assert reader.end < path.stat().st_size / 2


def test_of_a_shard_that_is_damaged_nothing_is_moved(path, monkeypatch):
    monkeypatch.setattr(logs, "_AT_ONCE", 1)
    before = path.read_bytes()
    shard = path.with_name("responses.rank-0.jsonl")
    shard.write_bytes(header_line("r") + entry_line("d", SCORE) + entry_line("a", REPLY) + entry_line("e", SCORE))
    with ResponseLog(path) as log, pytest.raises(UserError, match=r"line 3 of '.*rank-0.jsonl' and line 2 of responses.jsonl answer one"):
        log.absorb([shard])
    assert path.read_bytes() == before
    assert shard.is_file()


def test_a_log_of_version_1_is_read_and_continued_with_sealed_lines(tmp_path):
    path = tmp_path / "responses.jsonl"
    old = {"key": "a", "kind": "score", "logprobs": [-0.5], "tokens": [1], "greedy": [True], "prompt_tokens": 3}
    before = json.dumps({"format": "iit-bench/responses", "version": 1}) + "\n" + json.dumps(old) + "\n"
    path.write_text(before)
    with ResponseLog(path) as log:
        assert log.responses == {"a": ScoreResult((-0.5,), (1,), (True,), 3)}
        log.append({"b": REPLY})
    assert path.read_text().startswith(before)
    assert "check" in json.loads(path.read_bytes().splitlines()[2])
    with ResponseLog(path) as log:
        assert list(log.responses) == ["a", "b"]


def open_elsewhere(path: Path) -> str:
    """What another process hears that opens the log."""
    code = (
        "import sys, pathlib; from iit_bench.engine.log import ResponseLog\n"
        "try: ResponseLog(pathlib.Path(sys.argv[1]), fresh=True); print('opened')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout


def test_second_process_is_refused_while_the_first_has_the_log_open(path):
    before = path.read_bytes()
    with ResponseLog(path):
        assert "UserError another process is writing" in open_elsewhere(path)
        assert path.read_bytes() == before  # even though it asked to start over
    assert open_elsewhere(path) == "opened\n"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; free some space and repeat the command to resume"),
        (errno.EROFS, "Read-only file system; mount its file system so that it can be written and repeat the command to resume"),
        (errno.EIO, "Input/output error; check its disk, or the connection to it, and repeat the command to resume"),
    ],
)
def test_the_advice_fits_why_a_line_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    before = path.read_bytes()
    with ResponseLog(path) as log:
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(UserError, match=advice):
            log.append({"d": SCORE})
        monkeypatch.undo()
    assert path.read_bytes() == before


def test_full_disk_is_one_sentence_and_the_log_continues_when_there_is_space(path):
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, before[1]))  # the kernel takes nine bytes of the next line and no more
    try:
        with pytest.raises(UserError, match="free some space and repeat the command to resume"), ResponseLog(path) as log:
            log.append({"d": SCORE})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size
    with ResponseLog(path) as log:
        assert list(log.responses) == ["a", "b", "c"]
        log.append({"d": SCORE})
    with ResponseLog(path) as log:
        assert list(log.responses) == ["a", "b", "c", "d"]


def test_log_below_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder; choose another folder"):
        ResponseLog(tmp_path / "file" / "responses.jsonl")

"""Output folders: one process writes to one at a time, the error of a second names the first; what a killed process left is removed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iit_bench.errors import UserError
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.folder_locks import LOCK, holding, refuse_if_held
from iit_bench.storage.litter import remove_whole, unfinished
from iit_bench.storage.locks import ByteLocks, try_lock
from iit_bench.storage.whole_folders import reserved, save_folder
from tests.held_folder import ROOT, held_elsewhere

FORMAT = "iit-bench/export"


def save(out: Path, text: str, overwrite: bool = False) -> Path:
    return save_folder(out, [("text", text), ("manifest.json", f'{{"format": "{FORMAT}"}}')], FORMAT, overwrite)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- two at once


@pytest.mark.parametrize("how", ["in", "beside"])
def test_the_second_process_is_told_the_first_by_number_host_and_time(tmp_path, how):
    out = tmp_path / "out"
    with held_elsewhere(out, how) as other:
        with pytest.raises(UserError) as refused, holding(out, beside=how == "beside"):
            pass
        who = rf"process {other.pid} on {re.escape(os.uname().nodename)}, since \d{{4}}-\d\d-\d\d \d\d:\d\d UTC"
        assert re.fullmatch(rf"another process is writing '{out}' \({who}\); wait for it, or choose another --out", str(refused.value))
    with holding(out, beside=how == "beside"):
        pass
    assert names(tmp_path) == []


def test_two_writers_of_one_new_folder_are_not_both_successful(tmp_path):
    out = tmp_path / "out"
    with held_elsewhere(out, "beside"), pytest.raises(UserError, match="another process is writing"):
        save(out, "mine")
    assert names(tmp_path) == []


def test_processes_that_share_a_folder_keep_out_one_that_works_alone(tmp_path):
    with held_elsewhere(tmp_path, "shared"):
        with held_elsewhere(tmp_path, "shared") as second:
            with pytest.raises(UserError, match="another process is writing"), holding(tmp_path):
                pass
            second.stdin.close()
            second.wait()
        with pytest.raises(UserError, match="another process is writing"), holding(tmp_path):
            pass
        assert LOCK in names(tmp_path)
    assert names(tmp_path) == []


def test_who_joins_while_the_last_one_leaves_is_not_refused(tmp_path):
    """It holds the lock alone for the moment in which it removes the file."""
    leaving = (tmp_path / LOCK).open("wb")
    assert try_lock(leaving, tmp_path / LOCK)

    def leave() -> None:
        time.sleep(0.1)
        (tmp_path / LOCK).unlink()
        leaving.close()

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        with holding(tmp_path, shared=True):
            assert (tmp_path / LOCK).is_file()
    finally:
        thread.join()


def test_the_lock_of_a_killed_process_is_free_and_its_file_goes(tmp_path):
    with held_elsewhere(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert LOCK in names(tmp_path)
        refuse_if_held(tmp_path)
        with holding(tmp_path):
            pass
    assert LOCK not in names(tmp_path)


def test_the_lock_that_a_process_killed_at_the_end_left_goes_when_the_whole_folder_is_refused(tmp_path):
    out = save(tmp_path / "out", "whole")
    (tmp_path / ".out.lock").write_text("{}")
    with pytest.raises(UserError, match="already holds an export"):
        save(out, "newer")
    assert names(tmp_path) == ["out"]
    with held_elsewhere(out, "beside"), pytest.raises(UserError, match="already holds an export"):
        assert names(tmp_path) == [".out.lock", "out"]
        save(out, "newer")


def test_a_function_that_holds_a_folder_may_call_another_that_does(tmp_path):
    with reserved(tmp_path / "out", FORMAT):
        save(tmp_path / "out", "mine")
    assert names(tmp_path) == ["out"]


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    with holding(tmp_path):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:  # as a worker that outlives its parent
            os.read(reader, 1)
            os._exit(0)
    try:
        with holding(tmp_path):
            pass
    finally:
        os.write(writer, b"x")
        os.waitpid(child, 0)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(mine)
    with pytest.raises(UserError, match="cannot write"), holding(tmp_path / "out"):
        pass
    assert mine.read_text() == "mine"


# ---------------------------------------------------------------- killed in the midst


@pytest.mark.skipif(sys.platform != "linux", reason="folders change places in two steps here")
def test_a_reader_always_finds_a_folder_while_it_is_replaced(tmp_path, monkeypatch):
    out = save(tmp_path / "out", "old")
    real, looks = os.replace, []

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        looks.append((out / "text").is_file())

    monkeypatch.setattr(os, "replace", replace)
    save(out, "new", overwrite=True)
    assert looks == [True, True]  # after each of the two files: the folders changed places without a rename of one to a free name
    assert (out / "text").read_text() == "new" and names(tmp_path) == ["out"]


def test_a_folder_whose_replacing_was_killed_between_two_renames_is_moved_back(tmp_path, capsys):
    out = save(tmp_path / "out", "old")
    new = save(tmp_path / "new", "new")
    gone = ended_process()
    out.rename(tmp_path / f".out.{gone}.replaced")  # as a killed process of an earlier version left it
    new.rename(tmp_path / f".out.{gone}.partial")
    with pytest.raises(UserError, match="already holds an export; add --overwrite"):
        save(out, "newer")
    assert (out / "text").read_text() == "old" and names(tmp_path) == ["out"]
    assert "was being replaced when a process was killed" in capsys.readouterr().err
    assert (save(out, "newer", overwrite=True) / "text").read_text() == "newer"


def test_a_link_to_a_folder_stays_one_when_the_folder_is_replaced(tmp_path):
    save(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "text").read_text() == "new"
    assert names(tmp_path) == ["link", "real"]


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is the folder you are in"):
        save(Path(), "mine")
    assert names(tmp_path) == []


def ended_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_litter_of_a_process_that_is_gone_is_removed_and_of_a_living_one_kept(tmp_path):
    here, another = unfinished(tmp_path / "x").name.split("-")[1], "000000.partial"
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as alive:
        gone = ended_process()
        kept = {f".plan.json.{alive.pid}-{here}", f".plan.json.{gone}-{another}", f".results.json.{gone}-{here}", f".plan.json.{gone}"}
        for name in (*kept, f".plan.json.{gone}-{here}"):
            (tmp_path / name).write_text("half")
        check_writable(tmp_path / "plan.json")
        assert set(names(tmp_path)) == kept
        alive.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say when a process started")
def test_litter_of_a_number_that_another_process_has_now_is_removed(tmp_path):
    half = tmp_path / unfinished(tmp_path / "plan.json").name.replace(str(os.getpid()), str(os.getppid()))
    half.write_text("half")
    os.utime(half, (time.time() - 10**8,) * 2)  # touched long before the process was started that has the number now
    check_writable(tmp_path / "plan.json")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".manifest.json.{}.partial", ".{}.probe", ".out.{}-0a1b2c.partial"])
def test_litter_in_a_folder_is_removed_once_its_lock_is_held(tmp_path, name):
    path = tmp_path / name.format(ended_process())
    path.write_text("half")
    (tmp_path / ".model.safetensors.0123456789abcdef.partial").write_text("a download that resumes")
    with holding(tmp_path):
        assert not path.exists()
    assert names(tmp_path) == [".model.safetensors.0123456789abcdef.partial"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_folder_that_a_killed_process_was_removing_is_whole_or_goes_at_the_next_start(tmp_path, call):
    (folder := tmp_path / "checkpoint").mkdir()
    for name in ("state", "tensors"):
        (folder / name).write_text(name)
    child = os.fork()
    if not child:
        calls = []

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in ("os.rename", "os.remove"):
                calls.append(event)
                if len(calls) == call:
                    os._exit(9)

        sys.addaudithook(hook)
        remove_whole(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (names(folder) == ["state", "tensors"]) if call == 1 else not folder.exists()
    assert len(names(tmp_path)) == 1
    with holding(tmp_path):
        assert names(tmp_path) == [".lock", *(["checkpoint"] if call == 1 else [])]


# ---------------------------------------------------------------- locks of bytes

TAKES = "import sys; from pathlib import Path; from iit_bench.storage.locks import ByteLocks; print(ByteLocks(Path(sys.argv[1])).take(7))"


def test_asking_for_a_lock_leaves_it_with_whoever_has_it(tmp_path):
    locks = ByteLocks(tmp_path / "locks")
    assert locks.take(7)
    assert not locks.is_held(7)  # by another process
    other = subprocess.run([sys.executable, "-c", TAKES, tmp_path / "locks"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout == "False\n"

"""One file over HTTP: resumed, checked, and given up in one sentence."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluators.fetch import download as download_module
from evaluators.fetch.download import Checksum, RemoteFile, download, partial_of
from iit_bench.errors import MachineError, UserError

BYTES = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BYTES).hexdigest()
MD5 = Checksum("md5", hashlib.md5(BYTES).hexdigest())


@pytest.fixture
def remote(server, tmp_path) -> RemoteFile:
    server.tables = tmp_path / "tables"
    server.tables.mkdir()
    (server.tables / "file.bin").write_bytes(BYTES)
    return RemoteFile(path="file.bin", url=f"{server.url}/tables/file.bin", size=len(BYTES), checksum=Checksum("sha256", SHA256))


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "here/file.bin"


def check_arrives(remote: RemoteFile, target: Path, pauses: tuple[float, ...] = (0, 0)) -> None:
    told: list[int] = []
    made = download(remote, target, told.append, pauses)
    assert (made.size, made.sha256, target.read_bytes()) == (len(BYTES), SHA256, BYTES)
    assert sum(told) == len(BYTES)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


class Killed(BaseException):
    pass


def killed_at(size: int) -> Callable[[int], None]:
    """Dies when that many bytes have arrived."""
    told: list[int] = []

    def advance(count: int) -> None:
        told.append(count)
        if sum(told) >= size:
            raise Killed

    return advance


def ranges(server) -> list[str]:
    return [asked for _, _, asked in server.requests]


@pytest.mark.slow
@pytest.mark.parametrize("checksum", [Checksum("sha256", SHA256), MD5, Checksum("")], ids=lambda one: one.kind or "none")
def test_a_file_arrives_whole_and_checked(remote, target, checksum):
    check_arrives(replace(remote, checksum=checksum), target)


def test_gits_hash_of_a_blob(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert Checksum("git sha1", "ce013625030ba8dba906f756967f9e9ca394464a").matches(tmp_path / "hello")  # git hash-object
    assert not Checksum("git sha1", "f572d396fae9206628714fb2ce00f72e94f2258f").matches(tmp_path / "hello")  # only its SHA-1 would match


def test_a_broken_connection_is_resumed(server, remote, target):
    server.harm("file.bin", stop_after=300_000, times=3)
    check_arrives(remote, target)
    assert ranges(server) == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


@pytest.mark.parametrize("checksum", [Checksum("sha256", SHA256), Checksum("")], ids=["with checksum", "without"])
def test_a_server_that_knows_no_ranges_sends_it_anew(server, remote, target, checksum):
    server.harm("file.bin", stop_after=300_000, times=1, no_range=True)
    check_arrives(replace(remote, size=None, checksum=checksum), target)


def test_a_download_that_is_given_up_keeps_what_arrived(server, remote, target):
    server.harm("file.bin", stop_after=0)
    with pytest.raises(MachineError, match=r"file.bin cannot be fetched \(.*\): what arrived is kept; repeat the command to resume"):
        download(remote, target, lambda count: None, (0, 0))
    assert len(server.requests) == 3
    server.harm("file.bin", stop_after=1000)
    with pytest.raises(Killed):
        download(remote, target, killed_at(1000))
    assert partial_of(remote, target).stat().st_size == 1000
    server.trouble.clear()
    check_arrives(remote, target)
    assert ranges(server)[-1] == "bytes=1000-"


def test_without_a_checksum_a_killed_download_begins_anew(server, remote, target):
    """Nothing would show whether the rest still fits."""
    unchecked = replace(remote, checksum=Checksum(""))
    server.harm("file.bin", stop_after=1000, times=1)
    with pytest.raises(Killed):
        download(unchecked, target, killed_at(1000))
    (server.tables / "file.bin").write_bytes(BYTES[::-1])
    assert download(unchecked, target, lambda count: None).sha256 == hashlib.sha256(BYTES[::-1]).hexdigest()


def test_a_file_that_changes_between_two_requests_is_not_pieced_together(server, remote, target):
    unchecked = replace(remote, checksum=Checksum(""))
    server.harm("file.bin", stop_after=1000, times=1)
    told: list[int] = []

    def advance(count: int) -> None:
        told.append(count)
        if sum(told) == 1000:
            (server.tables / "file.bin").write_bytes(BYTES[::-1])

    assert download(unchecked, target, advance, (0,)).sha256 == hashlib.sha256(BYTES[::-1]).hexdigest()
    assert sum(told) == len(BYTES)


def test_a_flipped_byte_is_reported_and_nothing_is_kept(server, remote, target):
    server.harm("file.bin", flip=True)
    with pytest.raises(UserError, match=rf"'file.bin' does not have the sha256 that its publisher states \({SHA256}\); repeat the command"):
        download(remote, target, lambda count: None)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, UserError, r"the server answers 404; check the name, or put the file there by hand"),
        (401, UserError, r"the server answers 401; log in with `hf auth login`"),
        (403, UserError, r"the server answers 403; accept its terms on its page"),
        (503, MachineError, r"\(the server answers 503\): what arrived is kept; repeat the command to resume"),
    ],
)
def test_what_a_server_answers_instead_is_reported(server, remote, target, status, kind, said):
    server.harm("file.bin", status=status)
    with pytest.raises(kind, match=said):
        download(remote, target, lambda count: None, (0,))
    assert not target.exists()


@pytest.mark.parametrize(("header", "waits"), [("7", 7), ("1", 2), ("86400", 600), ("soon", 2)])
def test_a_server_that_asks_to_wait_is_waited_for(server, remote, target, monkeypatch, header, waits):
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    server.harm("file.bin", status=429, times=1, retry_after=header)
    check_arrives(remote, target, (2,))
    assert waits in waited


def test_without_network_by_choice(server, remote, target, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it to fetch"):
        download(remote, target, lambda count: None)


FULL = """
import resource, sys
from pathlib import Path
from evaluators.fetch.download import Checksum, RemoteFile, download
from iit_bench.errors import MachineError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
url, size, sha256, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
remote = RemoteFile(path="file.bin", url=url, size=size, checksum=Checksum("sha256", sha256))
try:
    download(remote, target, lambda count: None, ())
except MachineError as error:
    print(error)
"""


def test_a_full_disk_is_reported_and_what_arrived_is_kept(server, remote, target):
    """The kernel refuses to write beyond a size, as it does on a full disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    words = [sys.executable, "-c", FULL, remote.url, str(remote.size), SHA256, str(target)]
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith(f"cannot write {str(target)!r} (File too large): free some space and repeat the command")
    assert 0 < partial_of(remote, target).stat().st_size <= 200_000
    check_arrives(remote, target)
    assert ranges(server)[-1].startswith("bytes=")


@pytest.mark.parametrize("garbage", ["", "bytes", "bytes */9", "bytes x-", "bytes ²-3", "bytes -5", "1" * 5000])
def test_a_place_that_is_no_number_is_no_place(garbage):
    """int() of a header ended the download as an internal error."""
    answer = SimpleNamespace(status_code=206, headers={"content-range": garbage})
    assert download_module._start(answer) == download_module.NOWHERE
    answer.headers = {"content-range": "bytes 5-8/9"}
    assert download_module._start(answer) == 5


@pytest.mark.parametrize("garbage", ["", "x", "²", "-1", "1.5", "9" * 5000])
def test_a_length_that_is_no_number_is_not_known(garbage):
    assert download_module._number(garbage) is None

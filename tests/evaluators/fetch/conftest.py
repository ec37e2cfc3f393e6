"""A server on loopback that speaks what `iit-bench fetch` asks of the Hub and of VLMEvalKit's file server, over small files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import runpy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from iit_bench.cli import main

DATA = Path(__file__).parents[2] / "data"


def commit_of(name: str, version: int) -> str:
    return hashlib.sha1(f"{name} {version}".encode()).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Trouble:
    """What goes wrong with one file."""

    stop_after: int | None = None  # bytes, after which the connection breaks
    times: int = 10**6  # how often
    flip: bool = False  # one byte of it is another
    status: int = 0  # answered instead of the file
    retry_after: str = ""  # and a header beside it
    wait: threading.Event | None = None  # after `stop_after` bytes the rest is sent only when it is set
    no_range: bool = False
    size: int = 0  # that the tree claims


@dataclass
class Server:
    """Repositories of `repositories` as the Hub's data sets, `tables` as VLMEvalKit's tables."""

    repositories: Path
    tables: Path
    url: str = ""
    no_head: bool = False  # sizes are not told
    version: int = 1  # of all repositories' branch `main`
    trouble: dict[str, Trouble] = field(default_factory=dict)  # file name -> what goes wrong
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # data set -> status and X-Error-Code
    converted: dict[str, Path] = field(default_factory=dict)  # data set -> folder behind its branch refs/convert/parquet
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range

    def harm(self, name: str, **what: Any) -> None:
        """Something goes wrong with the file of this name: `Trouble`."""
        self.trouble[name] = Trouble(**what)

    def commit(self, name: str) -> str:
        """That `main` of a data set points to."""
        return commit_of(name, self.version)

    def files_sent(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET" and not path.startswith("/api/")]


class Handler(BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        if self.server_state.no_head:
            self.answer(405, b"", {})
        else:
            self.do_GET()

    def do_GET(self) -> None:
        state = self.server_state
        path = unquote(urlsplit(self.path).path)
        state.requests.append((self.command, path, self.headers.get("Range", "")))
        if tree := re.fullmatch(r"/api/datasets/(.+?)/tree/(main|refs/convert/parquet|[0-9a-f]{40})/?(.*)", path):
            self.repository(tree[1], tree[2], tree[3], "recursive=true" in self.path.lower())
        elif info := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.repository(info[1], info[2] or "main")
        elif file := re.fullmatch(r"/datasets/(.+?)/resolve/([^/]+)/(.+)", path):
            version = self.server_state.version
            commit = {"main": commit_of(file[1], version), "refs/convert/parquet": commit_of(file[1], -1)}.get(file[2], file[2])
            self.file(self.folder(file[1], file[2]) / file[3], {"X-Repo-Commit": commit})
        else:
            self.file(state.tables / path.rpartition("/")[2])

    def folder(self, name: str, revision: str) -> Path:
        converted = self.server_state.converted.get(name)
        if converted and revision in ("refs/convert/parquet", commit_of(name, -1)):
            return converted
        return self.server_state.repositories / name

    def do_POST(self) -> None:
        """Of some paths, those that are there: `datasets` asks this when it loads without a data root."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
        self.server_state.requests.append(("POST", self.path, ""))
        found = re.fullmatch(r"/api/datasets/(.+?)/paths-info/(.+)", unquote(self.path))
        assert found is not None
        folder = self.folder(found[1], found[2])
        body = [listed(folder, folder / path, None) for path in asked if path and (folder / path).exists()]
        self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def repository(self, name: str, revision: str, inside: str | None = None, recursive: bool = True) -> None:
        """A repository's facts, or with `inside` the tree of a folder in it."""
        state = self.server_state
        if name in state.refused or not (state.repositories / name).is_dir():
            status, code = state.refused.get(name, (404, "RepoNotFound"))
            return self.answer(status, b'{"error": "no"}', {"X-Error-Code": code})
        known = {commit_of(name, version): version for version in range(-1, state.version + 1)}
        known["main"] = state.version
        if name in state.converted:
            known["refs/convert/parquet"] = -1
        if revision not in known:
            return self.answer(404, b'{"error": "no"}', {"X-Error-Code": "RevisionNotFound"})
        folder = self.folder(name, revision)
        commit = commit_of(name, known[revision])
        if inside is not None and not (folder / inside).is_dir():
            return self.answer(404, b'{"error": "no"}', {"X-Error-Code": "EntryNotFound"})
        places = sorted((folder / (inside or "")).glob("**/*" if recursive else "*"))
        body: Any = [listed(folder, path, state.trouble.get(path.name)) for path in places]
        if inside is None:
            text = (folder / "README.md").read_text() if (folder / "README.md").is_file() else "---\n{}\n---\n"
            body = {"id": name, "sha": commit, "private": False, "tags": [], "cardData": yaml.safe_load(text.split("---\n")[1])}
        return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def file(self, path: Path, more: dict[str, str] | None = None) -> None:
        trouble = self.server_state.trouble.get(path.name, Trouble())
        if not path.is_file():
            return self.answer(404, b"no", {"X-Error-Code": "EntryNotFound"} if more else {})
        if trouble.status and trouble.times > 0:
            trouble.times -= 1
            return self.answer(trouble.status, b"no", {"Retry-After": trouble.retry_after})
        data = path.read_bytes()
        if trouble.flip:
            data = data[:-1] + bytes([data[-1] ^ 1])
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and not trouble.no_range and self.headers.get("If-Range", tag) == tag else 0
        if start >= len(data) > 0:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers = {"ETag": tag, "Accept-Ranges": "bytes"} | (more or {})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if start else 200)
        for key, value in (headers | {"Content-Length": str(len(data) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if trouble.stop_after is not None and trouble.times > 0:
            trouble.times -= 1
            self.wfile.write(data[start : start + trouble.stop_after])
            self.wfile.flush()
            if trouble.wait is None:
                self.close_connection = True
                return self.connection.close()
            trouble.wait.wait(60)
            start += trouble.stop_after
        self.wfile.write(data[start:])
        return None

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError):  # the other side was killed, or we broke off
            super().handle()


def listed(folder: Path, path: Path, trouble: Trouble | None) -> dict[str, Any]:
    """A file or folder as the Hub's tree lists it: parquet files are in LFS."""
    if path.is_dir():
        return {"type": "directory", "path": path.relative_to(folder).as_posix(), "oid": git_sha1(b"")}
    data = path.read_bytes()
    one = {"type": "file", "path": path.relative_to(folder).as_posix(), "size": len(data), "oid": git_sha1(data)}
    one["size"] = (trouble and trouble.size) or one["size"]
    if path.suffix == ".parquet":
        one["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return one


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories in `hub/`, tables in `tables/`. Never changed."""
    root = tmp_path_factory.mktemp("published")
    text = runpy.run_path(str(DATA / "make_text_snapshots.py"))
    text["write_text"](root / "hub", 6)
    old = runpy.run_path(str(DATA / "make_snapshots.py"))
    for make in ("openbookqa", "hellaswag", "winogrande"):
        old[make](root / "hub", 6)
    old["mmlu"](root / "hub", ["anatomy", "astronomy"], 6)
    text["write_card"](root / "hub/cais/mmlu", "mit")
    runpy.run_path(str(DATA / "make_vqa_tables.py"))["write_vqa"](root / "tables")
    for path in list((root / "tables/LMUData").iterdir()):
        path.rename(root / "tables" / path.name)
    return root


@pytest.fixture
def server(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server; the Hub's address points to it, and VLMEvalKit's addresses do."""
    state = Server(published / "hub", published / "tables")
    handler = type("Bound", (Handler,), {"server_state": state})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.daemon_threads = True
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    if find_spec("vlmeval") is not None:
        monkeypatch.syspath_prepend(vlmeval_at(state, tmp_path / "site"))
    yield state
    httpd.shutdown()
    httpd.server_close()


def vlmeval_at(state: Server, site: Path) -> str:
    """The installed VLMEvalKit with its tables' addresses and checksums exchanged for ours."""
    real = Path(next(iter(find_spec("vlmeval").submodule_search_locations)))  # type: ignore[union-attr, arg-type]
    for folder, skipped in ((real, "dataset"), (real / "dataset", "")):
        (site / folder.relative_to(real.parent)).mkdir(parents=True)
        for path in folder.iterdir():
            if path.name not in ("__pycache__", skipped, "image_mcq.py", "image_yorn.py"):
                (site / path.relative_to(real.parent)).symlink_to(path)
    sums = {path.stem: hashlib.md5(path.read_bytes()).hexdigest() for path in state.tables.glob("*.tsv")}
    for name in ("image_mcq.py", "image_yorn.py"):
        text = (real / "dataset" / name).read_text().replace("https://opencompass.openxlab.space/utils", f"{state.url}/tables")
        text = re.sub(r"'([\w-]+)': '[0-9a-f]{32}'", lambda found: f"'{found[1]}': '{sums.get(found[1], '0' * 32)}'", text)
        (site / "vlmeval/dataset" / name).write_text(text)
    return str(site)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(root, capsys) -> Callable[..., tuple[int, str, str]]:
    """run("piqa", "--yes") → exit code, stdout, stderr of `iit-bench fetch piqa --yes --data-root ROOT`."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main(["fetch", *words, "--data-root", str(root), "--quiet"])
        return code, *capsys.readouterr()

    return call

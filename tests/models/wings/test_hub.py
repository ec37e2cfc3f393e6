"""`push_to_hub` and loading by name, against a small server that speaks what huggingface_hub asks of the Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """One repository's files in `server.files`; every file is sent within the commit."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.endswith("/repos/create"):
            return self._json({"url": f"http://{self.headers['Host']}/me/wings"})
        if "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._json({"files": files})
        if "/commit/" not in self.path:
            return self._json({})  # the model card is looked through: it is fine
        for line in body.splitlines():
            record = json.loads(line)
            if record["key"] == "file":
                self.server.files[record["value"]["path"]] = base64.b64decode(record["value"]["content"])
        self._json({"commitUrl": f"http://{self.headers['Host']}/me/wings/commit/{COMMIT}", "commitOid": COMMIT})

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        files = self.server.files.items()
        if "/tree/" in path:
            folder = "/".join(path.split("/tree/")[1].split("/")[1:])
            listed = [
                {"type": "file", "path": name, "size": len(file), "oid": _sha1(file)} for name, file in files if name.startswith(folder)
            ]
            return self._json(listed) if listed else self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if "/resolve/" not in path:
            return self._json({"id": "me/wings", "sha": COMMIT, "siblings": [{"rfilename": name} for name, _ in files], "tags": []})
        content = self.server.files.get(path.split("/resolve/")[1].split("/", 1)[1])
        if content is None:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        self._answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_sha1(content)}"'})

    do_HEAD = do_GET

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# huggingface_hub reads the address once, at import: so in a process of its own.
PUSH_AND_LOAD = """
import sys, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
import iit_bench.models.wings

folder = sys.argv[1]
model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
model.push_to_hub("me/wings", token="hf_test", max_shard_size="40KB")
processor.push_to_hub("me/wings", token="hf_test")
again, reader = AutoModelForImageTextToText.from_pretrained("me/wings"), AutoProcessor.from_pretrained("me/wings")
assert again.config.to_dict().keys() == model.config.to_dict().keys()
weights = again.state_dict()
assert weights.keys() == model.state_dict().keys()
assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
chat = [{"role": "user", "content": [{"type": "text", "text": "Which colour is it?"}]}]
ids = [one.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"] for one in (processor, reader)]
assert torch.equal(*ids)
"""


@pytest.mark.slow
def test_what_is_pushed_to_the_hub_loads_by_its_name(hub: Any, folder: Path, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run([sys.executable, "-c", PUSH_AND_LOAD, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    names = set(hub.files)
    assert {"config.json", "model.safetensors.index.json", "processor_config.json", "README.md"} <= names
    assert sum(name.endswith(".safetensors") for name in names) > 1, "shards were asked for"

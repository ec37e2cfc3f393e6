"""`hf:OWNER/NAME` is read through the Hub's cache: downloaded from a server, or found there without a network."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import checkpoint
from iit_bench.training.chats import checking, hub
from iit_bench.training.chats.mixture import Mixture
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.parallel import Processes
from iit_bench.training.recipe import fill
from iit_bench.training.records import Dialogues, Part, Running
from tests.evaluators.fetch.conftest import Handler, Server
from tests.training.chats.conftest import llava, picture

COMMIT, LATER = "c" * 40, "d" * 40


def parquet(*answers: str) -> bytes:
    """Rows of a chat data set as `datasets` writes them, an image in each."""
    import datasets

    features = datasets.Features(
        {"messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}], "images": [datasets.Image()]}
    )
    rows = [
        {
            "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": answer}],
            "images": [{"bytes": picture(answer), "path": None}],
        }
        for answer in answers
    ]
    sink = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(sink)
    return sink.getvalue()


def archive(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.png", data)
    return sink.getvalue()


CHATS = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train-00000-of-00002.parquet": parquet("red", "blue"),
    "data/train-00001-of-00002.parquet": parquet("green"),
    "data/test-00000-of-00001.parquet": parquet("white"),
}
PRETRAIN = {"chats.json": json.dumps([llava(0, "red.png"), llava(1, "lost.png"), llava(2)]).encode(), "images.zip": archive(red=picture())}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache on this machine, empty, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def cached(cache: Path) -> Callable[..., None]:
    """cached("me/chats", files) puts a commit of a data set into the cache, laid out as the Hub's client does."""

    def put(name: str, files: dict[str, bytes], commit: str = COMMIT, branch: str = "main") -> None:
        folder = cache / f"datasets--{name.replace('/', '--')}"
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / branch).write_text(commit)
        for path, data in files.items():
            blob, link = folder / "blobs" / hashlib.sha256(data).hexdigest(), folder / "snapshots" / commit / path
            blob.write_bytes(data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)

    return put


@pytest.fixture
def server(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A Hub on loopback that has `me/chats`."""
    for path, data in CHATS.items():
        (tmp_path / "published/me/chats" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "published/me/chats" / path).write_bytes(data)
    state = Server(tmp_path / "published", tmp_path)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": state}))
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{httpd.server_port}"  # HF_ENDPOINT is read when the package is imported
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield state
    httpd.shutdown()
    httpd.server_close()


def source(encoding: Encoding, text: str, **more: Any) -> Source:
    return Source(Part(source=text, **more), encoding)


def refused(encoding: Encoding, text: str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        source(encoding, text, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def learned(made: Source) -> list[str]:
    rows = [made.row(number) for number in range(len(made.records))]
    assert all(picture(answer) == row.images[0].data for row in rows for answer in [text_of(made, row)])
    return [text_of(made, row) for row in rows]


def text_of(made: Source, row: Any) -> str:
    return str(made.encoding.tokenizer.decode([label for label in row.labels if label >= 0])).removesuffix("<|end|>")


@pytest.mark.oracle
def test_a_split_is_what_datasets_loads(cached: Callable[..., None], encoding: Encoding) -> None:
    import datasets

    cached("me/chats", CHATS)
    made = source(encoding, "hf:me/chats")
    loaded = datasets.Dataset.from_parquet([str(path) for path in made.paths])
    assert learned(made) == [row["messages"][1]["content"] for row in loaded] == ["red", "blue", "green"]
    assert made.revision == COMMIT
    assert learned(source(encoding, "hf:me/chats::test")) == learned(source(encoding, "hf:me/chats", split="test")) == ["white"]


def test_a_file_of_a_data_set_with_images_in_an_archive(cached: Callable[..., None], encoding: Encoding) -> None:
    cached("me/pretrain", PRETRAIN)
    data = Dialogues(mixture=(Part(source="hf:me/pretrain/chats.json", images="hf:me/pretrain/images.zip"),), refuse_above=0.5)
    report, (made,) = checking.check(data, encoding)
    assert report.parts[0].refused["image missing"].examples == ["chats.json record 1: lost.png"]
    assert made.row(0).images[0].data == picture() and report.parts[0].images == 1


def test_the_commit_is_recorded_and_kept_when_the_branch_moves(cached: Callable[..., None], encoding: Encoding, tmp_path: Path) -> None:
    cached("me/chats", CHATS)
    data, out = Dialogues(mixture=(Part(source="hf:me/chats"),)), tmp_path / "out"
    out.mkdir()
    report, _ = checking.check(data, encoding, out)
    assert {"source": "hf:me/chats", "revision": COMMIT}.items() <= report.as_json()[0].items()
    cached("me/chats", {**CHATS, "data/train-00001-of-00002.parquet": parquet("white")}, LATER)
    assert source(encoding, "hf:me/chats").revision == LATER
    begin(out)
    _, (made,) = checking.check(data, encoding, out)
    assert made.revision == COMMIT and learned(made)[-1] == "green"


def begin(out: Path) -> None:
    """A whole checkpoint of something small, which has no moments yet."""
    optimizer: Any = SimpleNamespace(state={})
    checkpoint.save(out, torch.nn.Linear(1, 1), optimizer, {"identity": {}, "step": 1}, Processes(Running()))


def test_branches_and_commits_are_revisions(cached: Callable[..., None], encoding: Encoding) -> None:
    cached("me/chats", CHATS, LATER, "v2")
    assert source(encoding, "hf:me/chats@v2").revision == source(encoding, f"hf:me/chats@{LATER}").revision == LATER


def test_configurations_are_subsets(cached: Callable[..., None], encoding: Encoding) -> None:
    cached("me/two", {"charts/train.parquet": parquet("red"), "maps/train.parquet": parquet("blue")})
    assert learned(source(encoding, "hf:me/two:maps")) == ["blue"]
    assert learned(source(encoding, "hf:me/two", subset="charts")) == ["red"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf:me/chats::dev", "has no .json, .jsonl, .parquet file of split 'dev' at revision cccccccccccc"),
        ("hf:me/chats:maps", "file of split 'train' of subset 'maps'"),
        ("hf:me/chats/lost.json", "has no .json, .jsonl, .parquet file 'lost.json'"),
        ("hf:me/chats/README.md", "file 'README.md'"),
        ("hf:me/other", "is not in the Hub's cache on this machine, and the Hub cannot be reached"),
        ("hf:me/chats@v9", "is not in the Hub's cache"),
    ],
)
def test_what_is_not_there_is_one_sentence(text: str, says: str, cached: Callable[..., None], encoding: Encoding) -> None:
    cached("me/chats", CHATS)
    assert says in refused(encoding, text)


def test_a_cache_that_has_a_part_of_a_split_is_not_the_split(cached: Callable[..., None], encoding: Encoding) -> None:
    cached("me/chats", {name: data for name, data in CHATS.items() if "00000-of" in name})
    assert "train-00001-of-00002.parquet is not in the Hub's cache, only other files of it" in refused(encoding, "hf:me/chats")
    assert not hub.is_cached(hub.parse("hf:me/chats"), "train", "", [".parquet"])
    assert hub.is_cached(hub.parse("hf:me/chats"), "test", "", [".parquet"])


def test_what_the_cache_lacks_is_downloaded_and_nothing_else(server: Server, cache: Path, encoding: Encoding) -> None:
    made = source(encoding, "hf:me/chats")
    assert learned(made) == ["red", "blue", "green"]
    assert made.revision == server.commit("me/chats")
    assert sorted(set(server.files_sent())) == ["README.md", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert "datasets--me--chats" in str(made.paths[0]) and cache in made.paths[0].parents


def test_a_data_set_that_the_hub_lacks_is_refused(server: Server, encoding: Encoding) -> None:
    assert "the Hub has no such data set, or you have no access to it" in refused(encoding, "hf:me/nothing")
    assert "has no revision 'v9'" in refused(encoding, "hf:me/chats@v9")
    server.refused["me/chats"] = (403, "GatedRepo")
    assert "asks for consent" in refused(encoding, "hf:me/chats@main")


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"source": "hf:chats"}, "is not spelled hf:OWNER/NAME"),
        ({"source": "hf:me/chats:a:b:c"}, "is not spelled hf:OWNER/NAME"),
        ({"source": "hf:me/chats:maps", "subset": "charts"}, "names another"),
        ({"source": "a.json", "images": "hf:me/chats"}, "must name one .zip file"),
    ],
)
def test_places_that_cannot_be(part: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        fill(Dialogues, {"mixture": [part]}, "recipe")


def test_images_are_read_when_they_are_looked_at(cached: Callable[..., None], written: Callable[..., Path], encoding: Encoding) -> None:
    """So each of several processes reads only those of its own rows."""
    path = written([llava(0, "red.png"), llava(1, "blue.png")])
    mixture = Mixture.checked(Dialogues(mixture=(Part(source=str(path)),)), encoding, seed=0, batch=2)
    rows = mixture.rows(0)
    (path.parent / "blue.png").unlink()
    read = [row.images[0].data for row in rows if "record 0" in row.id]
    assert read == [picture("red")]
    (lost,) = [row for row in rows if "record 1" in row.id]
    with pytest.raises(UserError, match=r"train\.json record 1: image missing: blue\.png, though it was there when it was checked"):
        _ = lost.images[0].sha256

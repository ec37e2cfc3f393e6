"""Every value of a JSON file that is changed after it was written is seen when the file is read; files of before seals are read."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluators.attention.table import ObservedDialogue, load_observed
from evaluators.iit.results import summarise
from evaluators.runs.reading import load_run
from iit_bench.data.fetched import FetchedFile, FetchedSet, load_sets, save_sets
from iit_bench.errors import UserError
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.benchmark import load_manifest
from iit_bench.storage.format import sealed_json
from iit_bench.storage.runs import load_errors, save_run_header, save_run_outcome
from iit_bench.storage.seals import SEAL, is_whole, sealed
from iit_bench.storage.tables import table_bytes
from tests.reliability.damages import damages
from tests.resealed import change
from tests.storage.test_folders import ERROR, predictions


@pytest.fixture
def tiny_run(tmp_path: Path) -> Path:
    """A finished run folder with two predictions, one of them an error."""
    folder = tmp_path / "run"
    model = {"name": "x", "blind": False, "details": {"mode": "strict"}, "parameters": 12, "max_context": None}
    benchmark = {"name": "lab", "tiers": {"T": 2, "V": 2}, "sources": {"facts": {"usable": 3, "sha256": "e" * 64}}}
    arguments = {"limit": 0.5, "tiers": ["T", "V"], "base": None, "names": {}}
    header = {"name": "r", "suite": "iit", "command": "iit-bench eval --model x", "seconds": 2.5, "resumed": 0}
    save_run_header(folder, header | {"model": model, "benchmark": benchmark, "arguments": arguments})
    rows = predictions()
    save_run_outcome(folder, rows, summarise(rows, {"V": "no images"}, True, ("T", "V")), [ERROR])
    return folder


def assert_each_damage_is_refused(path: Path, read: Any) -> int:
    """Every damage of the JSON file at `path` ends in one sentence; returns how many were tried."""
    whole = path.read_bytes()
    tried = 0
    for damaged in damages(json.loads(whole)):
        path.write_text(json.dumps(damaged))
        with pytest.raises(UserError):
            read()
        tried += 1
    path.write_bytes(whole)
    read()
    return tried


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_changed_value_of_a_run_folder_is_refused(tiny_run: Path, name: str) -> None:
    assert assert_each_damage_is_refused(tiny_run / name, lambda: load_run(tiny_run)) > 80


def test_a_changed_byte_of_errors_is_refused(tiny_run: Path) -> None:
    path = tiny_run / "errors.jsonl"
    whole = path.read_bytes()
    assert len(load_errors(tiny_run)) == 1
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError):
            load_errors(tiny_run)
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    with pytest.raises(UserError, match="was changed after it was written"):
        load_errors(tiny_run)


def test_a_changed_value_of_a_manifest_is_refused(tmp_path: Path) -> None:
    manifest = {
        "files": {"questions/a": "0", "dialogues/a": "0"},
        "rows_sha256": "1",
        "sources": {"facts": {"usable": 3, "left_out": {}}},
        "tiers": {"T": 3},
        "name": "日本",
    }
    write_atomic(tmp_path / "manifest.json", sealed_json("iit-bench/benchmark", manifest))
    assert assert_each_damage_is_refused(tmp_path / "manifest.json", lambda: load_manifest(tmp_path)) > 20


def test_a_changed_value_of_fetched_json_is_refused(tmp_path: Path) -> None:
    file = FetchedFile(size=1, sha256="5" * 64, checked="md5")
    one = FetchedSet(source="s", revision="r", ref="main", licence="MIT", splits={"main": {"test": ("a",)}}, files={"a": file})
    save_sets(tmp_path, {"one": one})
    assert load_sets(tmp_path) == {"one": one}
    assert assert_each_damage_is_refused(tmp_path / "fetched.json", lambda: load_sets(tmp_path)) > 20


def test_a_changed_byte_in_the_pages_or_the_words_of_a_table_of_attention_is_refused(tmp_path: Path) -> None:
    rows = [ObservedDialogue(dialogue=f"d{i}", tier="V", group=f"g{i}", cluster="c", history_clusters=(), layers=(0, 1), router_layers=(),
            n_image=4, n_before=1, n_between=0, n_after=3, image=(0.1, 0.2), before=(0.3, 0.1), between=(), after=(0.2, 0.7),
            router_image=(), router_before=(), router_between=(), router_after=()) for i in range(20)]  # fmt: skip
    about = sealed_json("iit-bench/attention", {"model": {"name": "x"}, "limit": 17})
    path = tmp_path / "attention.parquet"
    path.write_bytes(whole := table_bytes(ObservedDialogue, rows, {"iit-bench/attention": about}, checksums=True))
    assert load_observed(path).rows == rows and load_observed(path).about["limit"] == 17
    end = whole.index(b"iit-bench/attention")  # the pages are before the footer
    for place in range(4, end - 2000, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            assert load_observed(path).rows == rows  # a part of a page's header that nobody reads
        except UserError:
            continue
    path.write_bytes(table_bytes(ObservedDialogue, rows, {"iit-bench/attention": about.replace('"limit": 17', '"limit": 18')}))
    with pytest.raises(UserError, match="was changed after it was written"):
        load_observed(path)


def test_a_file_that_a_tool_formatted_anew_is_whole(tiny_run: Path) -> None:
    for name in ("run.json", "results.json"):
        path = tiny_run / name
        path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":")))
    load_run(tiny_run)


def test_a_seal_is_the_sha256_of_the_other_fields_as_canonical_json() -> None:
    body = sealed({"b": (1, 2.5, None), "a": {"é": True}})
    assert list(body) == ["b", "a", SEAL]
    assert body[SEAL] == hashlib.sha256('{"a":{"é":true},"b":[1,2.5,null]}'.encode()).hexdigest()
    assert is_whole(json.loads(json.dumps(body))) and not is_whole(json.loads(json.dumps(body | {"b": [1, 2.5]})))


def test_results_of_before_seals_are_read_marked_and_their_figures_recomputed(tiny_run: Path, tmp_path: Path) -> None:
    old = shutil.copytree(tiny_run, tmp_path / "old")
    run = load_run(tiny_run)
    for name, version in (("run.json", 2), ("results.json", 3)):
        path = old / name
        path.write_text(json.dumps({key: one for key, one in json.loads(path.read_text()).items() if key != SEAL} | {"version": version}))
    _, *lines = (old / "errors.jsonl").read_text().splitlines()
    (old / "errors.jsonl").write_text("\n".join(['{"format":"iit-bench/run/errors","version":2}', *lines, ""]))
    found = load_run(old)
    assert (found.sealed, run.sealed) == (False, True) and found.results == run.results and found.errors == run.errors
    change(old / "results.json", lambda body: body["tiers"][0]["acc"].update(value=0.123))
    assert load_run(old).results == run.results

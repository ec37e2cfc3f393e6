"""Files of records: the same records as json and pyarrow read, by number."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iit_bench.errors import ItemError, UserError
from iit_bench.training.chats import files

RECORDS = [{"a": 'quoted "{" and \\ and ]', "b": [{"c": [1, "}"]}, []]}, {}, {"umlaut": "Größe 😀", "n": None}, {"text": "two\nlines\\"}]


def read_all(path: Path, split: str = "train") -> list[Any]:
    records = files.open_records(files.paths_of(str(path), split))
    order = list(range(len(records)))
    random.Random(0).shuffle(order)
    found = {number: records.read(number) for number in order}
    return [found[number] for number in sorted(found)]


@pytest.mark.oracle
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_json_array_is_read_as_json_reads_it(indent: int | None, ascii_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(RECORDS, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert read_all(path) == json.loads(path.read_text(encoding="utf-8")) == RECORDS


def test_lines_may_be_blank_or_end_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"n": 1}\r\n\n  \n{"n": 2}')
    assert read_all(path) == [{"n": 1}, {"n": 2}]


def test_a_damaged_line_is_one_record_without_an_object(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"n": 1}\n{"n": \n[1]\n{"n": 3}\n')
    records = files.open_records([path])
    for number in (1, 2):
        with pytest.raises(ItemError, match=files.NO_RECORD):
            records.read(number)
    assert (len(records), records.read(3), records.name(3)) == (4, {"n": 3}, "train.jsonl record 3")


@pytest.mark.parametrize(
    "text", ["", "{}", '[{"n": 1}', '[{"n": 1}] x', '[{"n": 1} {"n": 2}]', '[{"n": 1},, {}]', "[1, {}]", '[{"n": 1}, 2]', "[[{}]]", '["a"]']
)
def test_what_is_no_array_of_objects_is_refused_as_a_whole(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not one JSON array of objects"):
        files.open_records([path])


@pytest.mark.oracle
@pytest.mark.slow
def test_parquet_is_read_as_pyarrow_reads_it_with_images_as_bytes(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "image": {"bytes": bytes([i]), "path": None}} for i in range(25)]
    pq.write_table(pa.Table.from_pylist(rows[:20]), tmp_path / "train-00000-of-00002.parquet", row_group_size=7)
    pq.write_table(pa.Table.from_pylist(rows[20:]), tmp_path / "train-00001-of-00002.parquet")
    assert read_all(tmp_path) == rows


def test_a_folder_is_laid_out_as_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"data/{split}.jsonl").write_text(json.dumps({"split": split}))
    assert read_all(tmp_path, "test") == [{"split": "test"}]
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts/train.jsonl").write_text("{}")
    assert files.paths_of(str(tmp_path), "train", "charts") == [tmp_path / "charts/train.jsonl"]
    with pytest.raises(UserError, match="of split 'dev' of subset 'charts'"):
        files.paths_of(str(tmp_path), "dev", "charts")


@pytest.mark.parametrize(("name", "says"), [("none.json", "no such file"), ("train.csv", "must end in")])
def test_a_source_that_is_no_file_of_records_is_named(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b")
    with pytest.raises(UserError, match=says):
        files.paths_of(str(tmp_path / name), "train")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"train\.parquet: is no parquet file"):
        files.open_records([path])


def test_the_hash_is_of_the_bytes(written: Callable[..., Path]) -> None:
    before = files.sha256_of([written([{"n": 1}])])
    assert files.sha256_of([written([{"n": 1}])]) == before != files.sha256_of([written([{"n": 2}])])

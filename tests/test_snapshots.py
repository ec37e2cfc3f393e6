"""Which files of a snapshot belong to a split, by its card (as `datasets` reads the same folder) or its layout; and its licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset_builder

from iit_bench.data.snapshots import card_licence, split_files

FILES = ("a/test-0.parquet", "a/test-1.parquet", "a/deep/train.parquet", "b/test.parquet", "data/test-9.parquet", "c_val.parquet")
NAMED = [{"split": "test", "path": "a/test-*"}, {"split": "train", "path": "a/**/train*"}]
ONE = [{"split": "test", "path": "test-1*"}]
CARDS: dict[str, tuple[list[dict[str, Any]], str | None]] = {
    "a list of splits": ([{"config_name": "x", "data_files": NAMED}, {"config_name": "y", "data_files": "b/*"}], "x"),
    "several patterns": ([{"config_name": "x", "data_files": [{"split": "test", "path": ["b/*", "data/*-?.parquet"]}]}], "x"),
    "a folder": ([{"config_name": "x", "data_dir": "b"}, {"config_name": "y", "data_dir": "data"}], "x"),
    "patterns in a folder": ([{"config_name": "y", "data_files": "b/*"}, {"config_name": "x", "data_dir": "a", "data_files": ONE}], "x"),
    "no name: the default": ([{"config_name": "x", "data_files": NAMED}, {"config_name": "default", "data_files": NAMED[:1]}], None),
    "no name: marked": ([{"config_name": "x", "data_files": NAMED[:1], "default": True}, {"config_name": "y", "data_files": NAMED}], None),
    "no name: the only one": ([{"config_name": "x", "data_files": [{"split": "validation", "path": "c_val.parquet"}]}], None),
    "against the layout": ([{"config_name": "b", "data_files": [{"split": "test", "path": "data/*"}]}], "b"),
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_read_as_datasets_reads_them(tmp_path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    configs, config = CARDS[name]
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"file": [file]}), tmp_path / file)
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    theirs = load_dataset_builder(str(tmp_path), config, cache_dir=str(tmp_path / "cache")).config.data_files
    _, ours = split_files(tmp_path, config, ["test", "train", "validation"])
    assert theirs and {split: sorted(map(str, files)) for split, files in ours.items()} == {
        str(split): sorted(map(str, files)) for split, files in theirs.items()
    }


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        ("main", ["main/test-00000-of-00002.parquet", "main/test-00001-of-00002.parquet", "other/test.parquet"], "parquet"),
        ("main", ["data/main/test/0000.parquet"], "parquet"),
        ("main", ["test/main.csv", "test/other.csv"], "csv"),
        ("main", ["main_test.jsonl"], "json"),
        (None, ["data/test-00000-of-00001.parquet"], "parquet"),
        (None, ["test.json"], "json"),
        (None, ["plain_text/test.parquet"], "parquet"),
    ],
)
def test_files_of_a_split_are_recognised_in_the_layouts_of_hub_snapshots(
    tmp_path: Path, config: str | None, files: list[str], expected: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    loader, by_split = split_files(tmp_path, config, ["test", "train"])
    assert loader == expected
    assert [path.relative_to(tmp_path).as_posix() for path in by_split["test"]] == [name for name in files if "other" not in name]
    assert "train" not in by_split


def test_the_licence_is_read_from_the_snapshots_card(tmp_path: Path) -> None:
    assert card_licence(tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlicense:\n- cc-by-4.0\n- mit\n---\ntext")
    assert card_licence(tmp_path) == "cc-by-4.0, mit"
    (tmp_path / "README.md").write_text("no header")
    assert card_licence(tmp_path) == ""

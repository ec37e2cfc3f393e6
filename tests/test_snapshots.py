"""Which files belong to a split, as a repository's card says it: against `datasets`' own reading of the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset_builder

from iit_bench.data.snapshots import split_files

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

from __future__ import annotations

import io
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iit_bench.storage import tables
from iit_bench.storage.benchmark import load_benchmark, save_benchmark
from iit_bench.storage.tables import read_columns, read_table, table_bytes
from iit_bench.types import Dialogue, Image, Question


def dialogues(n: int) -> list[Dialogue]:
    made = []
    for i in range(n):
        turns = tuple(f"q/{(i * 7 + turn) % 300}" for turn in range(1 + i % 3))
        made.append(Dialogue(id=f"T:{i}", tier="T" * len(turns), visual_share=0.0, group=turns[-1], turns=turns, target=turns[-1]))
    return made


def seen(i: int, data: bytes) -> Question:
    return Question(
        id=f"v/{i}",
        modality="V",
        source="made",
        subject="all",
        cluster=f"v/{i}",
        language="en",
        question="What is it?",
        images=(Image(data),),
        choices=("a", "b"),
        answer=0,
        answer_text="a",
    )


@dataclass
class Made:
    """Questions that are made each time they are asked for, each with an image of its own."""

    n: int
    size: int

    def __iter__(self) -> Iterator[Question]:
        return (seen(i, random.Random(i).randbytes(self.size)) for i in range(self.n))


@pytest.mark.oracle
@pytest.mark.parametrize("n", [0, 1, 999, 1000, 2500])
def test_a_table_written_in_parts_has_the_bytes_that_pyarrow_writes_at_once(n: int) -> None:
    records = dialogues(n)
    written = table_bytes(Dialogue, iter(records))
    at_once = io.BytesIO()
    columns = {name: [asdict(record)[name] for record in records] for name in pq.read_schema(io.BytesIO(written)).names}
    pq.write_table(pa.table(columns, schema=tables._schema(Dialogue)), at_once, compression="zstd", row_group_size=1000)
    assert written == at_once.getvalue()


def test_a_group_of_rows_ends_where_its_images_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "IMAGE_BYTES", 10_000)
    file = pq.ParquetFile(io.BytesIO(table_bytes(Question, Made(10, 4000))))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [3, 3, 3, 1]


def test_a_benchmark_is_saved_without_all_its_images_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "IMAGE_BYTES", 1_000_000)
    questions = Made(100, 200_000)
    tracemalloc.start()
    try:
        folder = save_benchmark(tmp_path / "bench", questions, [], {"name": "mine", "seed": 3}, "# card\n")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000  # of 20,000,000
    finally:
        tracemalloc.stop()
    assert list(load_benchmark(folder).questions.values()) == list(questions)


def test_equal_images_and_texts_are_one_object(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(table_bytes(Question, [seen(i, bytes([i % 2])) for i in range(10)]))
    read = read_table(Question, [path])
    assert read == [seen(i, bytes([i % 2])) for i in range(10)]
    assert len({id(question.images[0]) for question in read}) == 2
    assert len({id(question.source) for question in read}) == 1


def test_sequences_of_texts_that_many_rows_have_are_one_object(tmp_path: Path) -> None:
    """A million predictions have the choices and histories of a few thousand questions."""
    path = tmp_path / "table"
    path.write_bytes(table_bytes(Dialogue, [replace(one, tier="TT", turns=("q/1", "q/2"), target="q/2") for one in dialogues(2500)]))
    assert len({id(one.turns) for one in read_table(Dialogue, [path])}) == 1


def test_columns_are_read_by_name_and_whole(tmp_path: Path) -> None:
    rows = dialogues(2500)
    path = tmp_path / "table"
    path.write_bytes(table_bytes(Dialogue, rows))
    columns = read_columns(Dialogue, path, ("turns", "id"))
    assert list(columns) == ["turns", "id"]
    assert columns["id"].to_pylist() == [one.id for one in rows]
    assert [tuple(one) for one in columns["turns"].to_pylist()] == [one.turns for one in rows]

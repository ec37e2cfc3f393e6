"""Values that no record has are refused when a table is read, with file, column and row, however its hash came about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluators.attention.table import ObservedDialogue
from evaluators.iit.columns import Turns
from evaluators.iit.results import summarise
from evaluators.runs.benchmarks import benchmark_of
from evaluators.runs.reading import load_run
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import load_benchmark, save_benchmark
from iit_bench.storage.runs import save_run_header, save_run_outcome
from iit_bench.storage.tables import read_batches, read_columns, read_table, table_bytes
from iit_bench.types import Dialogue, Image, Prediction, Question, SeenPrompt, TaskItem
from tests.storage.test_run_files import HEADER

KNOWN = {"group": "a", "question": "a", "source": "s", "subject": "s", "cluster": "c", "modality": "T", "choices": ("x", "y"), "answer": 1}
SCORED = {"logprobs": (-2.0, -1.0), "choice_tokens": (1, 2), "chosen": 1, "chosen_norm": 1, "chosen_bytes": 1, "outcome": "correct"}
OTHER = {"reply": "y", "prompt_tokens": 5, "reply_tokens": 3}
TURN = Prediction(dialogue="TT:a", position=1, is_target=True, tier="TT", history_clusters=("d",), **KNOWN, **SCORED, **OTHER)  # type: ignore[arg-type]
PROMPT = SeenPrompt("TT:a", 1, "Which?", (0, 5), "0" * 64)
ITEM = TaskItem("t", "1", "1", "acc", 1.0, "correct", "x")
QUESTION = Question("a", "T", "s", "s", "c", "en", "Which?", (), ("x", "y"), 1, "y")
DIALOGUE = Dialogue("TT:a", "TT", 0.0, "a", ("b", "a"), "a", ("", "Then"))
_N = dict.fromkeys(("n_before", "n_image", "n_between", "n_after"), 1)
_CURVES = {"layers": (0, 1), "before": (0.5, 1.0), "image": (0.0, 0.1), "between": (), "after": (0.5, 0.4)}
SEEN = ObservedDialogue(dialogue="VT:a", tier="VT", group="a", cluster="c", history_clusters=("d",), **_N, **_CURVES)  # type: ignore[arg-type]
RECORDS = (TURN, PROMPT, ITEM, QUESTION, DIALOGUE, SEEN)
ODD: list[tuple[Any, str, Any]] = [
    (TURN, "logprobs", (0.5, -1.0)),
    (TURN, "logprobs", (float("nan"), -1.0)),
    (TURN, "logprobs", (float("-inf"), -1.0)),
    (TURN, "logprobs", (-1.0,)),
    (TURN, "answer", 2),
    (TURN, "answer", -1),
    (TURN, "chosen_norm", 2),
    (TURN, "chosen_bytes", -2),
    (TURN, "chosen", 0),
    (TURN, "outcome", "wrong"),
    (TURN, "outcome", "right"),
    (TURN, "tier", "TX"),
    (TURN, "tier", ""),
    (TURN, "modality", "I"),
    (TURN, "position", 2),
    (TURN, "position", -1),
    (TURN, "choices", ("x",)),
    (TURN, "choice_tokens", (-1, 2)),
    (TURN, "choice_tokens", (1,)),
    (TURN, "reply_tokens", -3),
    (TURN, "moved_choices", (0, 2)),
    (TURN, "history_clusters", ("d", "e")),
    (PROMPT, "image_places", (0, 6)),
    (PROMPT, "image_places", (-1,)),
    (PROMPT, "sha256", "x"),
    (ITEM, "score", float("inf")),
    (ITEM, "outcome", ""),
    (QUESTION, "answer", 2),
    (QUESTION, "answer_text", "x"),
    (QUESTION, "modality", "TV"),
    (QUESTION, "choices", ("y",)),
    (DIALOGUE, "tier", "T"),
    (DIALOGUE, "target", "b"),
    (DIALOGUE, "turns", ("a",)),
    (DIALOGUE, "connectors", ("",)),
    (SEEN, "n_image", -1),
    (SEEN, "layers", (-1, 0)),
    (SEEN, "image", (0.1,)),
    (SEEN, "after", (0.5, 1.5)),
    (SEEN, "router_image", (0.5,)),
]


def another(record: Any, name: str = "", value: Any = None) -> Any:
    """The record with another key, and with a value."""
    key = next(field for field in ("dialogue", "item", "id") if hasattr(record, field))
    return replace(record, **{key: f"{getattr(record, key)}/2"} | ({name: value} if name else {}))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_records_have_is_read(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(type(record), [record, another(record)]))
    assert read_table(type(record), [path]) == [record, another(record)]


@pytest.mark.parametrize(("record", "name", "value"), ODD, ids=lambda one: str(one) if isinstance(one, str) else None)
def test_a_value_that_no_record_has_is_refused_with_its_place(record: Any, name: str, value: Any, tmp_path: Path) -> None:
    path, kind = tmp_path / "t.parquet", type(record)
    path.write_bytes(table_bytes(kind, [record, another(record, name, value)]))
    names = list(vars(record))
    for read in (lambda: read_table(kind, [path]), lambda: read_columns(kind, path, names), lambda: list(read_batches(kind, path, names))):
        with pytest.raises(
            UserError, match=r"t\.parquet', column '\w+', row 1 \(from 0\): .* which must be [^\n]+; make the folder again$"
        ):
            read()


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("reply", pa.array(["y", None]), r"column 'reply', row 1 \(from 0\): None, which must be no null"),
        ("choices", pa.array([["x", "y"], ["x", None]]), r"column 'choices', row 1 \(from 0\): .* which must be no null"),
        ("answer", pa.array([1.0, 1.0]), "column 'answer': it holds numbers and must hold whole numbers"),
        ("is_target", pa.array([1, 1]), "column 'is_target': it holds whole numbers and must hold true and false"),
        ("logprobs", pa.array([["-2", "-1"]] * 2), "column 'logprobs': it holds lists of texts and must hold lists of numbers"),
        ("reply", pa.array([b"y", b"\xff"]).view(pa.string()), "column 'reply': it is damaged"),
    ],
)
def test_a_column_of_another_type_is_refused(name: str, column: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(Prediction, [TURN, another(TURN)]))
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
    for read in (lambda: read_table(Prediction, [path]), lambda: read_columns(Prediction, path, [name])):
        with pytest.raises(UserError, match=words):
            read()


def test_columns_that_other_tools_write_wider_or_narrower_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(Prediction, [TURN]))
    table = pq.read_table(path)
    other = {"reply": pa.large_string(), "answer": pa.int8(), "choices": pa.large_list(pa.large_string())}
    kinds = [pa.field(one.name, other.get(one.name, one.type)) for one in table.schema]
    pq.write_table(table.cast(pa.schema(kinds)), path)
    assert read_table(Prediction, [path]) == [TURN]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_row_that_is_there_twice_is_refused(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(type(record), [record, another(record), record]))
    with pytest.raises(UserError, match=r"t\.parquet', row 2 \(from 0\): .* occurs in a row before"):
        read_table(type(record), [path])


def written(folder: Path, rows: list[Prediction]) -> Path:
    """A run whose hashes are right, whatever its predictions hold."""
    save_run_header(folder, HEADER | {"suite": "iit"})
    save_run_outcome(folder, rows, summarise([TURN], {}, True, HEADER["benchmark"]["tiers"]), [])
    return folder


def test_a_turn_that_is_there_twice_ends_a_report_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="turn 1 of dialogue 'TT:a' occurs twice"):
        Turns.of_run(load_run(written(tmp_path / "run", [TURN, TURN]), "iit"))


def test_ids_that_the_benchmark_does_not_have_are_refused(tmp_path: Path) -> None:
    save_benchmark(tmp_path / "bench", [QUESTION, replace(QUESTION, id="b")], [DIALOGUE], {"name": "x"}, "card")
    bench = load_benchmark(tmp_path / "bench")
    for row, words in ((TURN, ""), (replace(TURN, question="z"), "question 'z'"), (another(TURN), "dialogue 'TT:a/2'")):
        run = load_run(written(tmp_path / "run", [row]), "iit")
        run = replace(run, run={**run.run, "benchmark": {"rows_sha256": bench.rows_sha256}})
        if not words:
            assert benchmark_of([run], tmp_path / "bench") is not None
            continue
        with pytest.raises(UserError, match=words):
            benchmark_of([run], tmp_path / "bench")


@pytest.mark.parametrize(
    ("dialogue", "words"),
    [
        (replace(DIALOGUE, turns=("c", "a")), "has the turn 'c', which is no question"),
        (replace(DIALOGUE, tier="VT"), "has turns that are not of its tier"),
    ],
)
def test_a_benchmark_whose_dialogues_do_not_fit_its_questions_is_refused(dialogue: Dialogue, words: str, tmp_path: Path) -> None:
    save_benchmark(tmp_path / "bench", [QUESTION, replace(QUESTION, id="b")], [dialogue], {"name": "x"}, "card")
    with pytest.raises(UserError, match=words):
        load_benchmark(tmp_path / "bench")


def test_images_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    seen = replace(QUESTION, modality="V", images=(Image(b"png"),))
    path.write_bytes(table_bytes(Question, [seen]))
    assert read_table(Question, [path]) == [seen]

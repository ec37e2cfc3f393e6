"""Tables with named columns as sources: files and data sets of the Hub."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from builders.build import BuildOptions, build, summary
from builders.sources.answers import READINGS
from builders.sources.base import TABLE_SUFFIXES, SourceOptions, SourceQuestions, load_source
from builders.sources.records import READERS
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import load_benchmark

Write = Callable[[str, Sequence[dict[str, Any]]], Path]

ROWS = [
    {"q": "What is red?", "options": ["rust", "coal"], "gold": "A", "topic": "colour"},
    {"q": "What is black?", "options": ["rust", "coal", "snow"], "gold": "B", "topic": "colour"},
    {"q": "What is 'NA'?", "options": ["None", "NA", "null"], "gold": "C", "topic": ""},
]
NAMED = ("question=q,choices=options,answer=gold,subject=topic",)


def picture(i: int, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Pillow.new("RGB", (5, 4), (40 * i % 256, 90, 7)).save(out, kind)
    return out.getvalue()


def encoded(i: int) -> str:
    return base64.b64encode(picture(i)).decode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("t.csv", rows) -> the path of a table in the format of its suffix; lists are JSON text in CSV and TSV."""

    def make(name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
        elif path.suffix in (".csv", ".tsv"):
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
                table.writeheader()
                table.writerows([{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows])
        else:
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            path.write_text(f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


def load(path: Path | str, *columns: str, answers: str = "", **options: Any) -> SourceQuestions:
    return load_source(str(path), SourceOptions(columns=columns, answers=(answers,) if answers else (), **options))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_a_table_of_any_kind_gives_the_same_questions(write: Write, suffix: str) -> None:
    source = load(write(f"t{suffix}", ROWS), *NAMED)
    assert [(q.question, q.choices, q.answer, q.subject) for q in source.questions] == [
        ("What is red?", ("rust", "coal"), 0, "colour"),
        ("What is black?", ("rust", "coal", "snow"), 1, "colour"),
        ("What is 'NA'?", ("None", "NA", "null"), 2, "all"),
    ]
    assert {q.modality for q in source.questions} == {"T"}
    assert [q.id for q in source.questions] == [f"t{suffix}/{i}" for i in range(3)]
    assert (source.name, source.answers, source.left_out) == (f"t{suffix}", "letter", {})


def test_a_suffix_for_every_reader() -> None:
    assert tuple(READERS) == TABLE_SUFFIXES


def test_the_folder_of_a_table_is_in_no_id(write: Write) -> None:
    """The same file in another place gives the same rows, on any machine."""
    here, there = write("t.jsonl", ROWS), write("other/t.jsonl", ROWS)
    assert load(here, *NAMED).questions == load(there, *NAMED).questions == load(f"table:{here}", *NAMED).questions


def test_columns_of_the_fields_own_names_need_no_option(write: Write) -> None:
    rows = [{"question": f"What is {i}?", "choices": ["rust", "coal"], "answer": "coal", "id": f"k{i}", "cluster": "p"} for i in range(2)]
    first, second = load(write("t.jsonl", rows)).questions
    assert (first.id, first.answer_text) == ("t.jsonl/k0", "coal")
    assert first.cluster == second.cluster != first.id


def test_nested_columns_and_several_columns(write: Write) -> None:
    """As ARC has it: {"text": […], "label": […]}; and as spreadsheets have it: a column per choice, the last ones empty."""
    rows = [
        {"question": "What is red?", "choices": {"text": ["coal", "rust"], "label": ["1", "2"]}, "answerKey": "2"},
        {"question": "What is black?", "choices": {"text": ["coal", "rust"], "label": ["A", "B"]}, "answerKey": "A"},
    ]
    source = load(write("arc.parquet", rows), "choices=choices.text,labels=choices.label,answer=answerKey")
    assert [q.answer_text for q in source.questions] == ["rust", "coal"]
    assert source.answers == "label"
    sheet = [
        {"question": "What is red?", "A": "coal", "B": "rust", "C": "", "answer": "B"},
        {"question": "x?", "A": "1", "B": "2", "C": "3", "answer": "C"},
    ]
    assert [q.choices for q in load(write("s.csv", sheet), "choices=A+B+C").questions] == [("coal", "rust"), ("1", "2", "3")]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_choices_may_be_objects(write: Write, suffix: str) -> None:
    """As medical exams have them: {"A": …, "B": …}, or a list of {"key", "value"}; parquet gives every row the keys of all rows."""
    rows = [
        {"question": "What is red?", "options": {"A": "coal", "B": "rust"}, "answer": "B"},
        {"question": "What is black?", "options": {"A": "coal", "B": "rust", "C": "snow"}, "answer": "A"},
    ]
    source = load(write(f"o{suffix}", rows), "choices=options")
    assert [(q.choices, q.answer) for q in source.questions] == [(("coal", "rust"), 1), (("coal", "rust", "snow"), 0)]
    assert source.answers == "label"
    pairs = [row | {"options": [{"key": key, "value": text} for key, text in row["options"].items()]} for row in rows]
    listed = load(write(f"p{suffix}", pairs), "choices=options.value,labels=options.key")
    assert [(q.choices, q.answer) for q in listed.questions] == [(q.choices, q.answer) for q in source.questions]


def test_columns_for_one_source_win_over_those_for_all(write: Write) -> None:
    path = write("t.jsonl", ROWS)
    assert len(load(path, "question=nothing,choices=options,answer=gold", f"{path}:question=q").questions) == 3


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("choices", "golds", "reading", "expected"),
    [
        (["red", "blue"], ["red", "blue"], "text", [0, 1]),
        (["red", "blue"], ["A", "b"], "letter", [0, 1]),
        (["red", "blue"], ["(A)", "B."], "letter", [0, 1]),
        (["red", "blue"], [0, 1], "from-0", [0, 1]),
        (["red", "blue"], ["1", "2"], "from-1", [0, 1]),
        (["red", "blue"], [2.0, 1.0], "from-1", [1, 0]),
        ([1, 10, 3], [10, 3], "text", [1, 2]),
        (["3", "5", "7"], ["5", "7"], "text", [1, 2]),
        (["0", "1"], [0, 1], "text", [0, 1]),  # read as positions, too, they are the same choices
    ],
)
def test_how_answers_name_a_choice_is_found_where_one_reading_fits(
    write: Write, choices: list[Any], golds: list[Any], reading: str, expected: list[int]
) -> None:
    rows = [{"question": f"Which {i}?", "choices": choices, "answer": gold} for i, gold in enumerate(golds)]
    source = load(write("t.jsonl", rows))
    assert (source.answers, [q.answer for q in source.questions]) == (reading, expected)


@pytest.mark.parametrize(
    ("choices", "golds", "message"),
    [
        (["red", "blue", "green"], [1, 2, 1], "can be read as from-0 and as from-1: '1' in row 1, with the choices 'red', 'blue', 'green'"),
        (["1", "2"], ["1", "1"], "can be read as text and as from-0: '1' in row 1"),
        (["B", "A"], ["A", "B"], "can be read as text and as letter"),
    ],
)
def test_answers_that_can_be_read_in_two_ways_are_refused_in_one_sentence(
    write: Write, choices: list[Any], golds: list[Any], message: str
) -> None:
    path = write("t.jsonl", [{"question": f"Which {i}?", "choices": choices, "answer": gold} for i, gold in enumerate(golds)])
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "name the right reading with --answers" in str(caught.value)
    for reading in str(caught.value).rsplit("--answers ", 1)[1].split(" or "):  # each of those it offers works
        assert reading in READINGS
        assert load(path, answers=reading).answers == reading
        assert load(path, answers=f"{path}:{reading}").answers == reading


def test_answers_that_no_reading_fits_are_refused_or_left_out_on_demand(write: Write) -> None:
    path = write("t.jsonl", [{"question": f"Which {i}?", "choices": ["red", "blue"], "answer": gold} for i, gold in enumerate([0, 1, 7])])
    with pytest.raises(UserError, match=r"no reading fits all 3 answers .*: from-0 fits 2, but not '7' in row 3, .* with --answers from-0"):
        load(path)
    source = load(path, answers="from-0")
    assert (len(source.questions), source.left_out) == (2, {"answer outside the choices": 1})


@pytest.mark.parametrize("golds", [["Yes", "no"], [True, False]])
def test_a_table_without_choices_is_answered_yes_or_no(write: Write, golds: list[Any]) -> None:
    source = load(write("t.jsonl", [{"question": f"Is it {i}?", "answer": gold} for i, gold in enumerate(golds)]))
    assert [(q.choices, q.answer_text) for q in source.questions] == [(("Yes", "No"), "Yes"), (("Yes", "No"), "No")]
    assert source.answers == "yes/no"


def test_records_that_cannot_be_used_are_counted(write: Write) -> None:
    good = {"question": "Which?", "choices": ["red", "blue"], "answer": "red"}
    rows = [good, good | {"answer": ["red", "blue"]}, good | {"answer": ""}, good | {"choices": "red or blue"}, good | {"answer": None}]
    rows += [good | {"choices": [], "answer": "red"}, good | {"choices": ["red"], "answer": 0}, good | {"question": None}]
    source = load(write("t.jsonl", rows))
    assert [q.question for q in source.questions] == ["Which?", ""]  # the builder leaves the empty one out
    assert source.left_out == {
        "several correct answers": 1,
        "no answer": 2,
        "choices are not a list of texts": 1,
        "fewer than two choices": 2,
    }


def test_half_characters_are_counted_by_the_builder(tmp_path: Path) -> None:
    """JSON can write them; no table of a benchmark can hold them."""
    half = "\ud83d"
    row = {"question": "Which?", "choices": ["red", "blue"], "answer": "red", "subject": "s", "cluster": "c"}
    rows = [row, *(row | {name: half} for name in ("id", "question", "subject")), row | {"choices": ["red", half]}, row | {"cluster": half}]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    built = load_benchmark(build(BuildOptions(text=(str(path),), tiers="T", size=2, out=tmp_path / "bench")))
    assert built.manifest["sources"]["t.jsonl"]["left_out"] == {"a text with half a character": 4}


def test_numbers_are_the_texts_that_the_file_has(write: Write) -> None:
    rows = [{"question": "How much?", "choices": [1.0, 2.5, 10.0], "answer": 2.5}, {"question": "How?", "choices": [7, 8, 9], "answer": 9}]
    assert [q.choices for q in load(write("t.jsonl", rows)).questions] == [("1.0", "2.5", "10.0"), ("7", "8", "9")]
    gaps = [{"question": f"Which {i}?", "choices": ["red", "blue"], "answer": gold} for i, gold in enumerate((1.0, float("nan"), 0.0))]
    source = load(write("t.parquet", gaps))  # pandas writes a column of whole numbers with gaps like this
    assert ([q.answer for q in source.questions], source.answers, source.left_out) == ([1, 0], "from-0", {"no answer": 1})


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"question": "a"}\n{"question": \n', r"line 2 of '.*t\.jsonl' is not JSON"),
        ("t.jsonl", "[1, 2]\n", r"line 1 of .* is no object with named columns"),
        ("t.json", '{"a": 1}', "holds no list of records"),
        ("t.csv", "question,choices,answer\na,b\n", r"the row that ends in line 2 of .* has 2 cells, the header 3"),
        ("t.csv", 'question,choices,answer\n"a,b\n', r"is not well formed"),
        ("t.csv", "question,question\na,b\n", "has two columns called 'question'"),
        ("t.csv", "question,choices,answer\n", "has no rows"),
        ("t.parquet", "PAR1 nothing", "is not a readable parquet file"),
        (
            "t.jsonl",
            '{"q": "a", "answer": "b"}\n',
            r"has no column 'question'; its columns are q, answer; name the right one with --columns question=",
        ),
        ("t.jsonl", '{"question": "a?", "answer": "b"}\n', "has no column of choices, and its answers are not Yes or No"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("question,choices,answer\nÜber?,x,y\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not in UTF-8"):
        load(tmp_path / "t.csv")
    with pytest.raises(UserError, match="there is no table"):
        load(tmp_path / "lost.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("question",)}, "is not FIELD=COLUMN"),
        ({"columns": ("questions=q",)}, "knows no field 'questions'; the fields are question, choices, answer, images"),
        ({"columns": ("other.csv:question=q",)}, "--columns names the source 'other.csv', and the command has"),
        ({"answers": ("B",)}, "--answers 'B' is not known; use auto, text, letter, from-0, from-1"),
        ({"answers": ("other.csv:text",)}, "--answers names the source 'other.csv'"),
        ({"language": "English"}, "--language 'English' is no code of BCP 47"),
        ({"columns": ("answer=lost",)}, "has no column 'lost' for the answer"),
    ],
)
def test_options_that_do_not_fit_are_refused(write: Write, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write("t.jsonl", ROWS)
    with pytest.raises(UserError, match=message):
        build(BuildOptions(out=tmp_path / "b", text=(str(path),), tiers="T", size=2, **options))


@pytest.mark.parametrize("options", [{"columns": ("question=q",)}, {"answers": ("text",)}, {"include_path": Path("tasks")}])
def test_options_without_a_source_to_use_them_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"is given, but no source is .* \(facts, two-hop\); name one, or leave it out"):
        build(BuildOptions(out=tmp_path / "b", tiers="T", size=2, **options))


# ---------------------------------------------------------------- a benchmark of tables


def test_a_benchmark_is_built_from_tables_of_text_and_of_images(write: Write, tmp_path: Path) -> None:
    texts = [{"q": f"What of metal{i} in place{i}?", "options": [f"rust{i}", f"gold{i}", f"tin{i}"], "gold": "B"} for i in range(20)]
    seen = [
        {"question": f"What is at corner{i}?", "choices": [f"dot{i}", f"bar{i}"], "answer": i % 2, "images": encoded(i)}
        for i in range(6)
    ]  # fmt: skip
    text, visual = write("t.csv", texts), write("v.jsonl", seen)
    options = {
        "text": (str(text),), "visual": (str(visual),), "size": 6, "tiers": "T,TV,VT,V",
        "columns": (f"{text}:question=q,choices=options,answer=gold",), "answers": (f"{visual}:from-0",),
    }  # fmt: skip
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", **options)))
    assert {source: entry["answers"] for source, entry in built.manifest["sources"].items()} == {"t.csv": "letter", "v.jsonl": "from-0"}
    assert built.manifest["name"] == "custom"
    assert "t.csv: 20 usable, 6 targets" in summary(built.manifest)
    images = {q.id: q.images[0].data for q in built.questions.values() if q.images}
    assert images == {f"v.jsonl/{i}": picture(i) for i in range(6) if f"v.jsonl/{i}" in images}
    assert len(images) == 6
    again = load_benchmark(build(BuildOptions(out=tmp_path / "c", **options)))
    assert again.rows_sha256 == built.rows_sha256


# ---------------------------------------------------------------- the Hub


def snapshot(folder: Path, rows: Sequence[dict[str, Any]], split: str = "test", config: str = "") -> None:
    place = folder / config / f"{split}-00000-of-00001.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), place)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Data\n")


def test_a_data_set_of_the_hub_is_read_from_a_data_root(tmp_path: Path) -> None:
    snapshot(tmp_path / "org/metals", ROWS[:2], "validation")
    snapshot(tmp_path / "org/metals", ROWS[:1], "train")
    snapshot(tmp_path / "org/metals", ROWS, "test", "hard")
    source = load("hub:org/metals", *NAMED, data_root=tmp_path)
    assert (len(source.questions), source.split, source.licence, source.origin) == (2, "validation", "cc-by-4.0", "org/metals")
    assert source.questions[0].id == "hub:org/metals/0"
    assert len(load("hub:org/metals:hard", *NAMED, data_root=tmp_path).questions) == 3
    assert len(load("hub:org/metals::train", *NAMED, data_root=tmp_path).questions) == 1
    with pytest.raises(UserError, match=r"no parquet, json or csv file of split 'dev'.* name another, as in hub:org/metals::train"):
        load("hub:org/metals::dev", *NAMED, data_root=tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load("hub:org/other", *NAMED, data_root=tmp_path)
    with pytest.raises(UserError, match="is not hub:ORG/NAME"):
        load("hub:org/a/b/c", *NAMED, data_root=tmp_path)


def test_the_hub_offline_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"cannot read the Hub's data set 'org/metals' .*go online, or put its files below") as caught:
        load("hub:org/metals")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- documentation


def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/how-to/my-data.md: its file, and its command as it is printed there."""
    import shlex

    from iit_bench.cli import main

    page = (Path(__file__).parents[2] / "docs/how-to/my-data.md").read_text(encoding="utf-8")
    table = page.split("```jsonl\n", 1)[1].split("```", 1)[0]
    command = next(line for line in page.splitlines() if line.startswith("iit-bench build --text questions.jsonl"))
    monkeypatch.chdir(tmp_path)
    Path("questions.jsonl").write_text(table, encoding="utf-8")
    assert main(shlex.split(command)[1:]) == 0
    built = load_benchmark(tmp_path / "bench")
    assert built.manifest["sources"]["questions.jsonl"]["answers"] == "letter"
    assert {"mercury", "iron", "carbon dioxide", "Mercury"} >= {q.answer_text for q in built.questions.values()}

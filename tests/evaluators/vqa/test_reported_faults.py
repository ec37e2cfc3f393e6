"""One test per reported fault of the VQA suite: cells, replies, rows and pictures of tables."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from evaluators.vqa.built import _names
from evaluators.vqa.exact_rule import exactly, numbers
from evaluators.vqa.messages import split_reasoning
from iit_bench.errors import UserError
from iit_bench.images import decode
from iit_bench.models.contract import GenerateResult
from iit_bench.tools.text_cells import SCORED, SHOWN, TextCells, guesses
from iit_bench.tools.vlmevalkit import kit


@pytest.fixture
def ask(vqa, parrot, makers, tmp_path):
    """ask(rows, replies by question) -> the finished run of a table of these rows, the model's requests in `asked`."""

    def call(rows: list[dict[str, Any]], replies: dict[str, str], name: str = "Reported", **more: Any):
        for number, row in enumerate(rows):
            row.setdefault("index", number)
            row.setdefault("image", makers["picture"](number))
        makers["table"](tmp_path / f"data/{name}.tsv", rows)
        parrot.reply = lambda text, images: next((reply for question, reply in replies.items() if question in text), "?")
        run = vqa(parrot, name, data_root=tmp_path / "data", **more)
        object.__setattr__(run, "asked", parrot.asked)
        return run

    return call


def outcomes(run) -> dict[str, str]:
    return {item.item: item.outcome for item in run.items}


# ---------------------------------------------------------------- cells are text


@pytest.mark.slow
@pytest.mark.parametrize("other", ["", "5.5", "NA", "five"])
def test_a_right_3_is_right_whatever_another_row_says(ask, other: str) -> None:
    """ "3" was "3.0" and wrong as soon as another reply was empty, a decimal number or "NA"; so was a gold answer beside such a one."""
    rows = [{"question": "How many?", "answer": "3"}, {"question": "Which size?", "answer": other or "four"}]
    run = ask(rows, {"How many": "3", "Which size": other})
    assert outcomes(run) == {"0": "correct", "1": "correct" if other else "wrong"}
    notes = " ".join(run.results.tasks[0].notes)
    assert ("cells are text" in notes) == (other in ("5.5", "NA"))
    assert ("replies are text" in notes) == (other in ("", "5.5", "NA"))


@pytest.mark.slow
def test_options_called_none_or_na_are_shown_and_can_be_chosen(ask) -> None:
    """VLMEvalKit's prompts lose the options "None", "NA", "null": pandas reads them as empty cells."""
    row = {"question": "Which trace is there?", "A": "Copper", "B": "None", "C": "NA", "D": "null", "answer": "B"}
    run = ask([row, row | {"index": 1, "question": "And here?", "answer": "C"}], {"Which trace": "B", "And here": "C"}, name="Chosen")
    assert outcomes(run) == {"0": "correct", "1": "correct"}
    (prompt,) = {request.messages[-1].text.partition("Options:\n")[2] for request in run.asked}
    assert prompt.startswith("A. Copper\nB. None\nC. NA\nD. null\n")
    assert run.results.tasks[0].notes == (
        "cells are text: VLMEvalKit's own run reads 6 otherwise, e.g. 'None' in column 'B' of row '0' as an empty cell",
    )


def test_tables_are_read_as_text_where_a_column_holds_words(tmp_path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("index\tquestion\tA\tanswer\thit\n1\t7\tNone\t3\t1\n2\t\tx\t\t0\n3\t007\tNA\t5.5\t1\n", encoding="utf-8")
    cells = TextCells()
    frame = cells.read_csv(path, sep="\t")
    assert list(frame["index"]) == [1, 2, 3] and list(frame["hit"]) == [1, 0, 1]
    assert list(frame["A"]) == ["None", "x", "NA"]
    assert list(frame["question"].fillna("-")) == ["7", "-", "007"] and list(frame["answer"].fillna("-")) == ["3", "-", "5.5"]
    cells.columns = SHOWN  # a data set that scores by itself may compute with its answers
    assert list(cells.read_csv(path, sep="\t")["answer"].fillna("-")) == [3, "-", 5.5]
    found = [(guess.index, guess.column, guess.text, guess.guess) for guess in guesses(frame, ["question", "A", "answer"])]
    assert found == [
        ("1", "question", "7", "7.0"),
        ("3", "question", "007", "7.0"),
        ("1", "A", "None", None),
        ("3", "A", "NA", None),
        ("1", "answer", "3", "3.0"),
    ]
    assert SHOWN < SCORED


@pytest.mark.parametrize(("cells", "kind"), [("3 4", "int64"), ("1.5 2.25", "float64"), ("3 5.5", "object"), ("3 NA", "object")])
def test_answers_that_a_data_set_may_compute_with_are_numbers_each_by_itself(tmp_path, cells: str, kind: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("index\tanswer\n" + "".join(f"{i}\t{cell}\n" for i, cell in enumerate(cells.split())), encoding="utf-8")
    reader = TextCells()
    reader.columns = SHOWN
    found = reader.read_csv(path, sep="\t")["answer"]
    assert found.dtype == kind and " ".join(map(str, found)) == cells


@pytest.mark.slow
def test_a_data_set_with_scoring_of_its_own_reads_each_gold_answer_by_itself(ask) -> None:
    """CountBenchQA looks for str(answer) in the reply: with an empty answer in the table "3" was "3.0", and every reply wrong."""
    rows = [{"question": "One?", "answer": "3"}, {"question": "Two?", "answer": "4"}, {"question": "Three?", "answer": ""}]
    run = ask(rows, {"One": "3", "Two": "5"}, name="CountBenchQA")
    assert run.results.tasks[0].scores["accuracy"].value == pytest.approx(100 / 3)


def test_an_index_with_leading_zeros_is_text(tmp_path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("index\timage\n001\t002\n002\tx\n", encoding="utf-8")
    assert list(TextCells().read_csv(path, sep="\t")["index"]) == ["001", "002"]


# ---------------------------------------------------------------- open answers by our rule


@pytest.fixture(scope="module")
def process_line():
    with kit() as vlmeval:
        yield vlmeval.open_answers.process_line


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("gold", "reply", "right"),
    [
        ("-5", "5", False),
        ("5", "-5", False),
        ("-5", "-5", True),
        ("-5", "\N{MINUS SIGN}5", True),
        ("-5", "-5.", True),
        ("+5", "5", True),
        ("$-5", "$5", False),
        ("2-3", "2-3", True),
        ("2-3", "23", False),
        ("1,200", "1200", True),
        ("1,2", "12", False),
        ("3.5", "35", False),
        ("5", "5.", True),
        ("5", "five", False),
        ("Copper", "copper", True),
        ("the copper", "Copper.", True),
        ("copper", "copper wire", False),
        ("two", "2", False),
        ("-0.5", ".5", False),
    ],
)
def test_minus_5_is_not_5_where_the_rule_is_ours(process_line, gold: str, reply: str, right: bool) -> None:
    """VLMEvalKit takes signs off before it compares: "-5" equals "5" there, and in the data sets that it has a rule for."""
    found = exactly(process_line, {"answer": gold, "prediction": reply}, method="exact")
    assert found["match"] == [right]
    if right:
        theirs = process_line({"answer": gold.rstrip("."), "prediction": reply.rstrip(".").replace("\N{MINUS SIGN}", "-")}, method="exact")
        assert theirs["match"] == [True]  # only ever stricter


def test_numbers_in_a_text() -> None:
    assert numbers("-5 of 1,200 at 2-3, +7 or -.5") == [-5, 1200, 2, 3, 7, -0.5]
    assert numbers("no number") == []


@pytest.mark.slow
def test_minus_5_counts_as_wrong_in_a_table_of_ones_own(ask) -> None:
    rows = [{"question": "How cold?", "answer": "-5"}, {"question": "How warm?", "answer": "5"}]
    run = ask(rows, {"How cold": "5", "How warm": "5"})
    assert outcomes(run) == {"0": "wrong", "1": "correct"}
    assert run.results.tasks[0].warnings == ()


# ---------------------------------------------------------------- reasoning


@pytest.mark.parametrize(
    ("reply", "answer", "reasoning"),
    [
        ("B", "B", ""),
        ("<think>A or B? A looks wrong.</think>\n\nB", "B", "A or B? A looks wrong."),
        ("the template opened it: A?</think> B", "B", "the template opened it: A?</think>"),
        ("<think>A</think>C</think>B", "B", "<think>A</think>C</think>"),
        ("<think>A, no, maybe", "", "A, no, maybe"),
        ("What does <think> mean?", "What does <think> mean?", ""),
    ],
)
def test_reasoning_is_split_off_as_vlmevalkit_splits_it(reply: str, answer: str, reasoning: str) -> None:
    assert split_reasoning(reply) == (answer, reasoning)


@pytest.mark.slow
def test_reasoning_is_not_read_as_the_answer(ask) -> None:
    """The letters of a reasoning were counted as an answer, those of one cut short too; run.json records the switch."""
    row = {"A": "one", "B": "two", "answer": "B"}
    rows = [{**row, "question": f"Question {word}"} for word in ("closed", "cut", "plain", "wrong")]
    replies = {"closed": "<think>A? No.</think>B", "cut": "<think>It is B", "plain": "B", "wrong": "<think>B</think>A"}
    run = ask(rows, {f"Question {word}": reply for word, reply in replies.items()}, name="Thinking")
    assert outcomes(run) == {"0": "correct", "1": "truncated", "2": "correct", "3": "wrong"}
    assert run.run["split_think"] is True
    assert [item.reply for item in run.items] == list(replies.values())


@pytest.mark.slow
def test_reasoning_that_a_model_declares_is_split_off_too(vqa, parrot, makers, tmp_path) -> None:
    rows = [{"index": i, "question": f"Q{i}?", "answer": "Yes", "image": makers["picture"](i)} for i in range(3)]
    makers["table"](tmp_path / "data/Declared.tsv", rows)
    results = {
        "Q0?": GenerateResult("Yes", 1, 1, reasoning="no, yes"),
        "Q1?": GenerateResult("", 1, 1, reasoning="yes", unfinished_reasoning=True),
        "Q2?": GenerateResult("I would say that", 1, 1, finish_reason="length"),
    }
    parrot.generate = lambda batch: [results[one.messages[-1].text.splitlines()[0]] for one in batch]
    run = vqa(parrot, "Declared", data_root=tmp_path / "data")
    assert outcomes(run) == {"0": "correct", "1": "truncated", "2": "truncated"}


# ---------------------------------------------------------------- rows


@pytest.mark.slow
def test_of_two_rows_with_one_index_the_first_counts_with_its_own_picture(ask, makers) -> None:
    """Both rows had the last one's picture, and one message was lost."""
    rows = [
        {"index": 7, "question": "First?", "answer": "Yes", "image": makers["picture"](1)},
        {"index": 8, "question": "Other?", "answer": "Yes", "image": makers["picture"](2)},
        {"index": 7, "question": "Second?", "answer": "No", "image": makers["picture"](3)},
        {"index": 9, "question": "Same picture?", "answer": "Yes", "image": "7"},
    ]
    run = ask(rows, {"First": "Yes", "Other": "Yes", "Second": "Yes", "Same": "Yes"}, name="Twice")
    assert outcomes(run) == {"7": "correct", "8": "correct", "9": "correct"}
    of_question = {request.messages[-1].text: request.messages[-1].images[0].data for request in run.asked}
    shown = {question.split("?")[0]: decode(data).tobytes() for question, data in of_question.items()}
    first, other = (decode(base64.b64decode(makers["picture"](number))).tobytes() for number in (1, 2))
    assert shown == {"First": first, "Other": other, "Same picture": first}
    (note,) = run.results.tasks[0].notes
    assert note.startswith("1 row ('7') left out, having the index of an earlier row, which counts with its own picture")


@pytest.mark.slow
def test_rows_that_name_one_file_are_each_shown_their_own_picture(ask, makers, parrot, vqa, tmp_path) -> None:
    """The second row of one `image_path` was shown the first one's picture; so was an index of a second data set in one folder."""

    def seen(run) -> dict[str, bytes]:
        return {one.messages[-1].text.split("?")[0]: decode(one.messages[-1].images[0].data).tobytes() for one in run.asked}

    def shown(number: int) -> bytes:
        return decode(base64.b64decode(makers["picture"](number))).tobytes()

    rows = [{"question": f"Q{i}?", "answer": "Yes", "image": makers["picture"](i % 2), "image_path": "same.png"} for i in range(3)]
    assert seen(ask(rows, {}, name="Named")) == {"Q0": shown(0), "Q1": shown(1), "Q2": shown(0)}
    parrot.asked.clear()
    for number, name in enumerate(("MMBench_DEV_EN", "MMBench_DEV_CN")):  # both in images/MMBench
        row = {"index": 1, "A": "Yes", "B": "No", "answer": "A", "question": f"{name}?", "image": makers["picture"](number)}
        makers["table"](tmp_path / f"data/{name}.tsv", [row])
    vqa(parrot, "MMBench_DEV_EN", "MMBench_DEV_CN", data_root=tmp_path / "data", out=tmp_path / "both")
    pictures = {"EN" if "_EN" in one.messages[-1].text else "CN": one.messages[-1].images[0].data for one in parrot.asked}
    assert {name: decode(data).tobytes() for name, data in pictures.items()} == {"EN": shown(0), "CN": shown(1)}


def test_a_picture_is_never_written_outside_its_data_sets_folder(tmp_path) -> None:
    line = {"index": 1, "image": "cell", "image_path": str(tmp_path / "elsewhere.png")}
    (name,) = _names(line, ["cell"], tmp_path / "images")
    assert name.endswith("/elsewhere.png") and (tmp_path / "images" / name).resolve().is_relative_to(tmp_path / "images")


@pytest.mark.slow
def test_a_picture_that_is_not_read_here_is_not_opened_by_vlmevalkit_either(ask, tmp_path, monkeypatch) -> None:
    """It has no limit of pixels, and draws EPS by Ghostscript: a stand-in tells whether it was started."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%EOF\n"
    rows = [{"question": "One?", "answer": "Yes"}, {"question": "Two?", "answer": "Yes", "image": base64.b64encode(eps).decode()}]
    run = ask([{**row, "index": f"../{number}"} for number, row in enumerate(rows)], {"One": "Yes", "Two": "Yes"}, name="Programs")
    assert not (tmp_path / "started").exists()
    shown = {one.messages[-1].text.split("?")[0]: one.messages[-1].images[0].data for one in run.asked}
    assert shown["Two"] == eps  # a model refuses it


@pytest.mark.slow
def test_a_row_that_vlmevalkit_cannot_ask_is_one_failed_item_and_is_named(ask, makers) -> None:
    """A mark <image 3> of two images ended the whole run with "IndexError"."""
    row = {"A": "one", "B": "two", "answer": "A", "split": "validation", "image": str([makers["picture"](1), makers["picture"](2)])}
    rows = [{**row, "index": "x1", "question": "<image 1> or <image 2>?"}, {**row, "index": "x2", "question": "<image 3>?"}]
    run = ask(rows, {"or": "A"}, name="MMMU_DEV_VAL")
    assert outcomes(run) == {"x1": "correct", "x2": "error"}
    (error,) = run.errors
    assert (error["item"], error["kind"], error["reason"]) == ("x2", "item", "VLMEvalKit cannot make a prompt of the row")
    assert "list index out of range" in error["detail"]
    assert len(run.asked) == 1 and run.results.tasks[0].warnings == ()
    assert any(note == "1 row ('x2') that VLMEvalKit cannot make a prompt of: counted as failed" for note in run.results.tasks[0].notes)


@pytest.mark.slow
def test_gold_answers_in_lower_case_count_in_a_yes_no_table_of_ones_own(ask) -> None:
    """VLMEvalKit compares with "Yes" and "No": every reply to such a table was wrong. Rows without a gold answer are named."""
    rows = [{"question": "One?", "answer": "yes"}, {"question": "Two?", "answer": "no"}, {"question": "Three?", "answer": ""}]
    run = ask(rows, {"One": "Yes.", "Two": "no", "Three": "Yes"}, name="Lower")
    assert outcomes(run) == {"0": "correct", "1": "correct", "2": "wrong"}
    assert run.results.tasks[0].notes == ("1 row ('2') without a gold answer: whatever the reply, wrong",)


@pytest.mark.slow
def test_a_row_whose_picture_is_nowhere_is_named(ask) -> None:
    """VLMEvalKit ended with an assertion that names no row."""
    with pytest.raises(UserError, match="the image of row '1' is '99', which is neither base64 nor the index of a row that has an image"):
        ask([{"question": "One?", "answer": "Yes"}, {"question": "Two?", "answer": "No", "image": "99"}], {}, name="Nowhere")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "index", "words"),
    [
        ("HallusionBench", "x7", "an index like HB_VD_illusion_0_1_0"),
        ("MME", "x7", "it needs the columns 'category' and 'image_path'"),
        ("MMBench_DEV_EN", "x7", "whole numbers as indices"),
    ],
)
def test_a_row_that_cannot_be_counted_is_named(ask, name: str, index: str, words: str) -> None:
    """VLMEvalKit's process ended with "IndexError", "KeyError" or "ValueError", and named no row."""
    row = {"index": index, "question": "One?", "answer": "Yes"} | ({"A": "Yes", "B": "No"} if name.startswith("MMB") else {})
    with pytest.raises(UserError, match=f"^row 'x7' of table {name}.tsv cannot be counted as VLMEvalKit counts this data set: .*{words}"):
        ask([row], {}, name=name)


@pytest.mark.slow
def test_a_reply_that_no_file_can_hold_is_no_loss_of_the_data_set(ask) -> None:
    """Half of an emoji (a server cut it in two) ended the run at the response log, in every suite."""
    run = ask([{"question": "One?", "answer": "Yes"}, {"question": "Two?", "answer": "No"}], {"One": "Yes \ud83d", "Two": "No"})
    assert outcomes(run) == {"0": "correct", "1": "correct"}


# ---------------------------------------------------------------- pictures


@pytest.mark.slow
def test_pictures_of_a_table_are_shown_as_everywhere(ask) -> None:
    """VLMEvalKit saves transparent pictures on black, 16-bit ones as they are, and photos without their orientation."""
    black_on_clear = Pillow.new("RGBA", (40, 20), (0, 0, 0, 0))
    black_on_clear.paste((0, 0, 0, 255), (0, 0, 20, 20))
    ramp = Pillow.fromarray(np.linspace(0, 65535, 800).reshape(20, 40).astype(np.uint16))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    half = Pillow.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 20, axis=1).repeat(20, axis=0))
    pictures = {
        "clear": encoded(black_on_clear),
        "deep": encoded(ramp),
        "turned": encoded(half, exif=exif),
        "float": encoded(Pillow.fromarray(np.linspace(0, 1, 800).reshape(20, 40).astype(np.float32)), "TIFF"),
        "plain": encoded(half),
    }
    run = ask([{"question": f"{name}?", "answer": "Yes", "image": cell} for name, cell in pictures.items()], {}, name="Pictures")
    for request in run.asked:
        message = request.messages[-1]
        original = base64.b64decode(pictures[message.text.split("?")[0]])
        assert decode(message.images[0].data).tobytes() == decode(original).tobytes(), message.text
    (note,) = run.results.tasks[0].notes
    assert note.startswith("4 rows ('0', '1', '2', …) with a picture that is transparent, turned, animated or not of 8 bits")


def encoded(picture: Pillow.Image, kind: str = "PNG", **settings: Any) -> str:
    sink = io.BytesIO()
    picture.save(sink, kind, **settings)
    return base64.b64encode(sink.getvalue()).decode()

"""One test per reported fault of reading VLMEvalKit's tables in a build."""

from __future__ import annotations

import base64
import runpy
from pathlib import Path
from typing import Any

import pytest

from builders.sources.base import SourceOptions
from builders.sources.vlmeval import load

CELLS = {"A": "one", "B": "two", "answer": "A"}


@pytest.fixture(scope="module")
def makers() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[1] / "data" / "make_snapshots.py"))


def test_of_two_rows_with_one_index_the_first_counts_with_its_own_picture(tmp_path: Path, makers: dict[str, Any]) -> None:
    """The first row was asked about the last one's picture."""
    pictures = [makers["picture"](number) for number in range(3)]
    rows = [
        {"index": 7, "question": "First?", **CELLS, "image": pictures[0]},
        {"index": 7, "question": "Second?", **CELLS, "image": pictures[1]},
        {"index": 8, "question": "As the first?", **CELLS, "image": "7"},
        {"index": 9, "question": "Other?", **CELLS, "image": pictures[2]},
        {"index": 9, "question": "Words only?", **CELLS, "image": ""},
    ]
    makers["table"](tmp_path / "T.tsv", rows)
    source = load("vlmeval:T", SourceOptions(data_root=tmp_path))
    found = {question.question: [image.data for image in question.images] for question in source.questions}
    assert found == {
        "First?": [base64.b64decode(pictures[0])],
        "As the first?": [base64.b64decode(pictures[0])],
        "Other?": [base64.b64decode(pictures[2])],
    }
    assert source.left_out == {"duplicate id": 2}


def test_an_index_may_repeat_in_a_split_that_is_not_evaluated(tmp_path: Path, makers: dict[str, Any]) -> None:
    """A row of the test split is neither lost to a row of another split nor shown with its picture."""
    pictures = [makers["picture"](number) for number in range(2)]
    rows = [
        {"index": 1, "question": "Dev?", **CELLS, "split": "dev", "image": pictures[0]},
        {"index": 1, "question": "Test?", **CELLS, "split": "test", "image": pictures[1]},
    ]
    makers["table"](tmp_path / "T.tsv", rows)
    source = load("vlmeval:T", SourceOptions(data_root=tmp_path))
    ((question, (image,)),) = [(question.question, question.images) for question in source.questions]
    assert question == "Test?" and image.data == base64.b64decode(pictures[1])

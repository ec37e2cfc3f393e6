"""The schemas of public chat data sets: turns with every image in its place, and what is refused, by reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import ItemError
from iit_bench.training.chats import schemas
from iit_bench.training.chats.pictures import MISSING, Folder
from iit_bench.training.chats.schemas import Picture, Turn, turns_of
from iit_bench.training.records import Part

A, B = Picture("a.png"), Picture("b.png")


def chat(*parts: Any, answer: str = "yes") -> list[Turn]:
    return [Turn("user", parts), Turn("assistant", (answer,))]


def llava(*values: str, **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)], **more}


def hub(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)], **more}


IMAGE, TEXT = {"type": "image", "text": None}, {"type": "text", "text": "Red?"}  # as parquet has them: every part with every field
READ = {
    "llava": (llava("<image>\nRed?", "yes", image="a.png"), chat(A, "\nRed?")),
    "llava text only": (llava("Red?", "yes"), chat("Red?")),
    "llava null image": (llava("Red?", "yes", image=None), chat("Red?")),
    "marks anywhere": (llava("Is <image> like <image>?", "yes", image=["a.png", "b.png"]), chat("Is ", A, " like ", B, "?")),
    "mark at the end": (llava("Red?\n<image>", "yes", image="a.png"), chat("Red?\n", A)),
    "later turn": (llava("Hi", "yes", "<image>", "yes", images=["a.png"]), [*chat("Hi"), *chat(A)]),
    "hub string": (hub("<image>Red?", "yes", images=[{"bytes": None, "path": "a.png"}]), chat(A, "Red?")),
    "hub parts": (hub([IMAGE, TEXT, IMAGE], [{"type": "text", "text": "yes"}], images=["a.png", "b.png"]), chat(A, "Red?", B)),
    "image in its part": (hub([{"type": "image", "image": "a.png"}, TEXT], "yes"), chat(A, "Red?")),
    "bytes": (hub("<image>", "yes", images=[{"bytes": b"x", "path": "n"}]), chat(Picture("n", b"x"))),
    "cauldron": ({"texts": [{"user": "Red?", "assistant": "yes", "source": "s"}], "images": ["a.png"]}, chat(A, "\nRed?")),
    "cauldron of two": ({"texts": [{"user": "Hi", "assistant": "yes"}] * 2, "images": ["a.png"]}, [*chat(A, "\nHi"), *chat("Hi")]),
    "vqa": ({"question": "Red?", "answer": "yes", "image": "a.png"}, chat(A, "\nRed?")),
    "vqa number": ({"question": "How many?", "answer": 3}, chat("How many?", answer="3")),
}


@pytest.mark.parametrize("name", READ)
def test_a_record_becomes_turns(name: str) -> None:
    record, expected = READ[name]
    assert turns_of(record) == expected


def test_columns_of_other_names() -> None:
    record = {"query": "Red?", "label": "yes", "img": "a.png", "question": "another column"}
    assert turns_of(record, {"question": "query", "answer": "label", "image": "img"}) == chat(A, "\nRed?")


def test_a_system_turn_comes_first() -> None:
    record = {"conversations": [{"from": "system", "value": "Be short."}, *llava("Red?", "yes")["conversations"]]}
    assert turns_of(record) == [Turn("system", ("Be short.",)), *chat("Red?")]


REFUSED = {
    schemas.MARK_WITHOUT_IMAGE: [llava("<image> <image>", "yes", image="a.png"), llava("<image>", "yes"), hub([IMAGE], "yes")],
    schemas.IMAGE_WITHOUT_MARK: [llava("Red?", "yes", image="a.png"), hub("<image>", "yes", images=["a.png", "b.png"])],
    schemas.IMAGE_ELSEWHERE: [llava("Red?", "<image>", image="a.png")],
    schemas.UNKNOWN_ROLE: [
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
    ],
    schemas.EMPTY_TURN: [llava("Red?", ""), llava(" \n", "yes"), hub("Red?", None), {"question": "Red?", "answer": None}],
    schemas.ROLES_OUT_OF_ORDER: [
        {"messages": [{"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
    ],
    schemas.UNKNOWN_PART: [
        hub([{"type": "video"}], "yes"),
        hub([{"type": "text"}], "yes"),
        hub([7], "yes"),
        {"texts": [{"user": "a", "assistant": "b"}, "x"]},
    ],
    schemas.UNKNOWN_SCHEMA: [{"prompt": "x", "completion": "y"}, {"messages": ["x"]}, {"messages": "x"}],
}


@pytest.mark.parametrize(("reason", "record"), [(reason, record) for reason, records in REFUSED.items() for record in records])
def test_what_cannot_be_trained_on_is_refused_by_reason(reason: str, record: dict[str, Any]) -> None:
    with pytest.raises(ItemError) as caught:
        turns_of(record)
    assert caught.value.reason == reason


def test_columns_that_no_schema_has_are_refused() -> None:
    with pytest.raises(ValueError, match="columns has 'qestion', which no schema has; the known names are messages, conversations"):
        Part(source="chats.jsonl", columns={"qestion": "query"})


def test_an_image_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ItemError) as caught:
        Folder(tmp_path, 1000).check(Picture("folder"))
    assert (caught.value.reason, caught.value.detail) == (MISSING, "folder is no file")

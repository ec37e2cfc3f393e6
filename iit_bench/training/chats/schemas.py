"""The schemas of chat data sets: from a record to turns with the places of their images.

* `conversations` (LLaVA, ShareGPT): `{"from": "human" | "gpt" | "system", "value": text}`, images in `image` or `images`;
* `messages` (Hub, TRL): `{"role": …, "content": text or parts}`, images in `images` or in the parts;
* `texts` (The Cauldron): `{"user": …, "assistant": …}`, images first;
* `question`, `answer` and an image (VQA), images first.

In texts of the first two each `<image>` is the place of the next image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from iit_bench.errors import ItemError
from iit_bench.types import IMAGE_MARK

Role = Literal["system", "user", "assistant"]
ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
UNKNOWN_SCHEMA = "unknown schema"
UNKNOWN_ROLE = "unknown role"
UNKNOWN_PART = "unknown part of a message"
ROLES_OUT_OF_ORDER = "user and assistant do not alternate"
EMPTY_TURN = "empty turn"
MARK_WITHOUT_IMAGE = "image mark without image"
IMAGE_WITHOUT_MARK = "image without mark"
IMAGE_ELSEWHERE = "image outside a user turn"


@dataclass(frozen=True)
class Picture:
    """Where a record's image is: the bytes of its file, or a path."""

    path: str = ""
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Turn:
    """A message before its images are read."""

    role: Role
    parts: tuple[str | Picture, ...]


def turns_of(record: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> list[Turn]:
    """The turns of a record.

    Args:
        record: as it is in its file.
        columns: name that this module knows -> the record's own name for it.

    Raises:
        ItemError: its reason is one of this module's.
    """
    record = {**record, **{known: record.get(own) for known, own in (columns or {}).items()}}
    pictures = [_picture(one) for one in _listed(record)]
    turns = _chat(record, pictures)
    _check(turns)
    return turns


def _chat(record: Mapping[str, Any], pictures: Sequence[Picture]) -> list[Turn]:
    for key in ("messages", "conversations"):
        if isinstance(record.get(key), list):
            return _placed(record[key], pictures)
    if isinstance(record.get("texts"), list):
        if odd := [pair for pair in record["texts"] if not isinstance(pair, Mapping)]:
            raise ItemError(UNKNOWN_PART, f"{str(odd[0])[:40]!r} among texts")
        spoken = [(role, pair.get(role)) for pair in record["texts"] for role in ("user", "assistant")]
        return _images_first(spoken, pictures)
    if "question" in record and "answer" in record:
        return _images_first([("user", record["question"]), ("assistant", record["answer"])], pictures)
    raise ItemError(UNKNOWN_SCHEMA, f"its keys are {', '.join(map(str, record))[:200]}")


def _listed(record: Mapping[str, Any]) -> list[Any]:
    """The record's images, in order."""
    for key in ("images", "image"):
        value = record.get(key)
        if value is not None and value != "" and value != []:
            return list(value) if isinstance(value, list | tuple) else [value]
    return []


def _picture(value: Any) -> Picture:
    if isinstance(value, str):
        return Picture(value)
    if isinstance(value, bytes):
        return Picture(data=value)
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
        if isinstance(data, bytes):
            return Picture(path if isinstance(path, str) else "", data)
        if isinstance(path, str) and path:
            return Picture(path)
    raise ItemError("image missing", f"{type(value).__name__} is neither a path nor an image file's bytes")


def _placed(messages: Sequence[Any], pictures: Sequence[Picture]) -> list[Turn]:
    """Messages whose images are where their marks are."""
    left = iter(pictures)
    turns = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise ItemError(UNKNOWN_SCHEMA, f"a message is {type(message).__name__}")
        role = _role(message.get("role", message.get("from")))
        content = message.get("content") if "content" in message else message.get("value")
        turns.append(Turn(role, tuple(part for part in _parts(content, left) if part != "")))
    if surplus := len(list(left)):
        raise ItemError(IMAGE_WITHOUT_MARK, f"{surplus} of {len(pictures)} images have no {IMAGE_MARK}")
    return turns


def _parts(content: Any, left: Iterator[Picture]) -> Iterator[str | Picture]:
    if content is None:
        return
    if isinstance(content, str):
        for place, text in enumerate(content.split(IMAGE_MARK)):
            if place:
                yield _next(left)
            yield text
        return
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            yield part["text"]
        elif kind == "image":
            own = next((part[key] for key in ("image", "path", "bytes") if part.get(key) is not None), None)
            yield _picture(own) if own is not None else _next(left)
        else:
            raise ItemError(UNKNOWN_PART, f"type {kind!r}" if kind else type(part).__name__)


def _next(left: Iterator[Picture]) -> Picture:
    found = next(left, None)
    if found is None:
        raise ItemError(MARK_WITHOUT_IMAGE)
    return found


def _images_first(spoken: Sequence[tuple[str, Any]], pictures: Sequence[Picture]) -> list[Turn]:
    """Turns without marks: the images precede the first question, as where this project asks (`asking.question_parts`)."""
    turns = []
    for place, (role, text) in enumerate(spoken):
        if not isinstance(text, str | int | float):
            raise ItemError(EMPTY_TURN if text is None else UNKNOWN_PART, f"{role} is {type(text).__name__}")
        first: tuple[str | Picture, ...] = tuple(pictures) if not place else ()
        words = str(text)
        turns.append(Turn(cast(Role, role), (*first, "\n" + words if first and words.strip() else words)))
    return turns


def _role(name: Any) -> Role:
    if not isinstance(name, str) or name not in ROLES:
        raise ItemError(UNKNOWN_ROLE, f"{str(name)[:40]!r}; known are {', '.join(ROLES)}")
    return ROLES[name]


def _check(turns: Sequence[Turn]) -> None:
    """What holds of a chat in any schema."""
    for turn in turns:
        pictures = [part for part in turn.parts if isinstance(part, Picture)]
        if pictures and turn.role != "user":
            raise ItemError(IMAGE_ELSEWHERE, f"role {turn.role}")
        if not pictures and not any(isinstance(part, str) and part.strip() for part in turn.parts):
            raise ItemError(EMPTY_TURN, f"role {turn.role}")
    spoken = [turn.role for turn in turns[bool(turns) and turns[0].role == "system" :]]
    if spoken != [("user", "assistant")[place % 2] for place in range(len(spoken))]:
        raise ItemError(ROLES_OUT_OF_ORDER, ", ".join(spoken)[:80])

"""A tokenizer, and files of chats in the schemas of public data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from iit_bench.training.chats.reading import Encoding
from tests.conftest import tiny_tokenizer


def picture(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG of one colour."""
    sink = io.BytesIO()
    PillowImage.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def llava(number: int, image: Any = None, question: str = "What is this?", answer: str = "red") -> dict[str, Any]:
    """A record of LLaVA's `llava_v1_5_mix665k.json`."""
    mark = "<image>\n" if image else ""
    turns = [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return {"id": f"{number:06}", **({"image": image} if image else {}), "conversations": turns}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def encoding(tokenizer: Any) -> Encoding:
    return Encoding(tokenizer=tokenizer, image_tokens=4, longest=400, max_pixels=10_000)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes records as `NAME.json` or `NAME.jsonl`, beside the images red.png and blue.png."""
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))

    def write(records: Sequence[Any], name: str = "train.json") -> Path:
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        text = "\n".join(lines) if name.endswith("l") else json.dumps(list(records), indent=1)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write

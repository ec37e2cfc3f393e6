"""The documentation of a record's fields, read from where the fields are declared, so that a page about them cannot become wrong."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Mapping
from typing import Any

_DECLARED = re.compile(r"    (\w+)\s*:\s*([^=#]+?)\s*(?:=.*)?(?:#.*)?$")


def fields_of(record: Any) -> list[tuple[str, str, str]]:
    """(name, type, documentation) of every field.

    Args:
        record: a dataclass, documented by the comment behind or above each field or by its metadata "help"; or a dict from names to texts.
    """
    if isinstance(record, Mapping):
        return [(name, "", str(text)) for name, text in record.items()]
    comments = _comments(record)
    rows = []
    for field in dataclasses.fields(record):
        text = field.metadata.get("help") or comments.get(field.name, "")
        rows.append((field.name, _type(field.type), str(text)))
    return rows


def _comments(record: type) -> dict[str, str]:
    """Comment behind each field, else the comment lines above it; base classes first."""
    documentation: dict[str, str] = {}
    for base in reversed(record.__mro__):
        if not dataclasses.is_dataclass(base) or base is object:
            continue
        source = textwrap.dedent(inspect.getsource(base))
        above: list[str] = []
        behind = {token.start[0]: token.string.lstrip("# ") for token in _tokens(source) if token.type == tokenize.COMMENT}
        for number, line in enumerate(source.splitlines(), start=1):
            if line.strip().startswith("#"):
                above.append(line.strip().lstrip("# "))
                continue
            if match := _DECLARED.match(line):
                documentation[match[1]] = behind.get(number) or " ".join(above) or documentation.get(match[1], "")
            above = []
    return documentation


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace(" ", "")


def table(record: Any) -> str:
    """The fields as a Markdown table."""
    rows = fields_of(record)
    if any(kind for _, kind, _ in rows):
        lines = ["| field | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | `{_cell(kind)}` | {_cell(text)} |" for name, kind, text in rows]
    else:
        lines = ["| field | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(text)} |" for name, _, text in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", r"\|"))
    return "".join(piece if piece.startswith("`") else re.sub(r"([*_<])", r"\\\1", piece) for piece in pieces)

"""Tables as other tools write them: csv, tsv, json (a list of records), xlsx. Cells stay as they are; nothing is guessed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, described, one_line

FORMATS = ("csv", "tsv", "json", "xlsx")
_FIELD_LIMIT = 1 << 30  # a cell may hold an image


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, by column name.

    Raises:
        UserError: it cannot be read, or is an Excel file and openpyxl is not installed.
    """
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = [content] if isinstance(content, dict) else content
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("it holds no records")
            return rows
        if path.suffix == ".xlsx":
            return _excel(path)
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                return [dict(row) for row in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")]
        finally:
            csv.field_size_limit(limit)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"table {str(path)!r} cannot be read ({one_line(error)}); write it again") from error


def _excel(path: Path) -> list[dict[str, Any]]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise UserError(
            f"table {str(path)!r} is an Excel file, which needs openpyxl; `pip install openpyxl`, or run VLMEvalKit with PRED_FORMAT=tsv"
        ) from error
    from zipfile import BadZipFile

    try:
        lines = list(load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True))
    except (InvalidFileException, BadZipFile, KeyError, IndexError) as error:
        raise ValueError(described(error)) from error
    head = [str(name) for name in lines[0]] if lines else []
    return [dict(zip(head, line, strict=False)) for line in lines[1:]]


def number(cell: Any) -> float | None:
    """A finite number that a cell holds, or None."""
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None

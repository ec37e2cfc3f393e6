"""A benchmark as VLMEvalKit tables: a folder for `$LMUData` with a table a tier, to VLMEvalKit a custom multiple-choice data set.

VLMEvalKit puts a row as one user turn: its images, then "Question: …", the choices with letters, and a request to choose. A dialogue is
flattened into that form: earlier turns stand in the question's text as VLMEvalKit itself would put them, each followed by "Answer: LETTER",
and `<image k>` (as in MMMU's tables) marks where the k-th image belongs.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import count

from builders.export.base import Advance, Asked, File, Plan, Row
from iit_bench.asking import LETTERS, question_parts
from iit_bench.images import encode, opened
from iit_bench.types import Image, Question

_MARK = re.compile(r"<image \d+>")
_MORE = ("answer", "category", "l2-category", "dialogue", "target")  # columns; the last two are for readers
_CHANGED = "a cell that VLMEvalKit's reader (pandas) takes for something else, such as 'NA' or 'None'"


def table_name(plan: Plan, tier: str) -> str:
    """VLMEvalKit keeps decoded images by table and row: another build must have another name."""
    return f"IIT_{tier}_{plan.benchmark.rows_sha256[:8]}"


def files(plan: Plan, advance: Advance) -> Iterator[File]:
    """Everything but README and manifest."""
    for tier in plan.tiers:
        rows = {str(number): row for number, _, row in plan.rows(tier, _row, advance)}
        table = _readable(rows, plan)
        plan.done(tier, len(rows))
        yield f"{table_name(plan, tier)}.tsv", table


# ---------------------------------------------------------------- rows


def _row(asked: Asked) -> Row | str:
    """A dialogue as a row, or why it cannot be one."""
    if asked.images and any(_MARK.search(question.question) for question in asked.questions):
        return "a text holds <image k>, which would be taken for a mark"
    target = asked.target
    row = {"question": _flat(asked), **dict(zip(LETTERS, target.choices, strict=False)), "answer": LETTERS[target.answer]}
    row |= {"category": target.subject, "l2-category": target.source, "dialogue": asked.dialogue.id, "target": target.id}
    return row | ({"image": _cell(asked.images)} if asked.images else {})


def _flat(asked: Asked) -> str:
    """The question's text of a row: all turns, up to where VLMEvalKit adds the choices of the last."""
    number = count(1)
    connectors = asked.dialogue.connectors or ("",) * len(asked.questions)
    turns = [
        (f"{connector}\n" if connector else "") + _words(question, number, alone=len(asked.questions) == 1)
        for question, connector in zip(asked.questions, connectors, strict=True)
    ]
    earlier = [f"{text}\n{_answered(question)}" for text, question in zip(turns[:-1], asked.questions[:-1], strict=True)]
    return "Question: ".join([*earlier, turns[-1]])


def _words(question: Question, number: Iterator[int], alone: bool) -> str:
    """A question with its image marks. VLMEvalKit shows images first: where that is the question's own order, no mark is needed."""
    parts = question_parts(question)
    if alone and parts[: len(question.images)] == question.images:
        return "".join(part for part in parts if isinstance(part, str)).removeprefix("\n")
    return "".join(part if isinstance(part, str) else f"<image {next(number)}>" for part in parts)


def _answered(question: Question) -> str:
    """What stands below an earlier question: VLMEvalKit's own words, and the gold answer."""
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, question.choices, strict=False))
    request = "Please select the correct answer from the options above. \n"
    return f"Options:\n{options}{request}Answer: {LETTERS[question.answer]}\n\n"


def _cell(images: Sequence[Image]) -> str:
    texts = [base64.b64encode(_writable(image)).decode() for image in images]
    return texts[0] if len(texts) == 1 else str(texts)


def _writable(image: Image) -> bytes:
    """The bytes, or a PNG of them where VLMEvalKit could not: it saves every image as PNG, which has no CMYK."""
    with opened(image.data) as picture:
        if picture.mode in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
            return image.data
        return encode(picture.convert("RGB"))


# ---------------------------------------------------------------- the table


def _readable(rows: dict[str, Row], plan: Plan) -> bytes:
    """The table of the rows that VLMEvalKit's reader gives back as they are; the others are taken out of `rows` and counted.

    pandas guesses types by column, so what it makes of a cell depends on the company: taken out until nothing changes.
    """
    while True:
        table = _table(rows)
        changed = _changed(table, rows)
        if not changed:
            return table
        plan.left_out[_CHANGED] += len(changed)
        for index in changed:
            del rows[index]


def _table(rows: dict[str, Row]) -> bytes:
    """Tab-separated, an image that an earlier row has as that row's index."""
    used = {name for row in rows.values() for name in row}
    columns = ["index", "question", *(letter for letter in LETTERS if letter in used), *_MORE]
    columns += ["image"] if "image" in used else []
    first: dict[str, str] = {}
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for index, row in rows.items():
        shown = row | {"index": index}
        if "image" in row and (holder := first.setdefault(row["image"], index)) != index:
            shown["image"] = holder
        writer.writerow([shown.get(name, "") for name in columns])
    return text.getvalue().encode()


def _changed(table: bytes, rows: dict[str, Row]) -> list[str]:
    """Indices of rows that pandas, as VLMEvalKit uses it, gives back with another text in a cell, or with a cell less or more."""
    import pandas as pd

    if not rows:
        return []
    frame = pd.read_csv(io.BytesIO(table), sep="\t").drop(columns="image", errors="ignore")
    found = ({name: str(cell) for name, cell in record.items() if not pd.isna(cell)} for record in frame.to_dict("records"))
    plain = ({name: cell for name, cell in (row | {"index": index}).items() if name != "image"} for index, row in rows.items())
    return [cells["index"] for cells, read in zip(plain, found, strict=True) if cells != read]

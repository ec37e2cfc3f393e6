"""Writes a benchmark as VLMEvalKit tables: a folder for `$LMUData` with one table per tier, each a custom multiple-choice data set.

VLMEvalKit's prompt for a row is one user turn: its images, then "Question: …", the choices with letters, and a request to choose. Dialogues
are flattened into that form: earlier turns are part of the question's text in VLMEvalKit's own format, each followed by "Answer: LETTER",
and `<image k>` (as in MMMU's tables) marks the place of the k-th image.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import count

from builders.export.base import Advance, File, LeftOut, Plan, ResolvedDialogue, Row
from iit_bench.asking import LETTERS, question_parts
from iit_bench.images import portable
from iit_bench.types import Image, Question

_MARK = re.compile(r"<image \d+>")
_LAST_COLUMNS = ("answer", "category", "l2-category", "dialogue", "target")  # "dialogue" and "target" are not used by VLMEvalKit
_CHANGED = "a cell that VLMEvalKit's reader (pandas) takes for something else, such as 'NA' or 'None'"


def table_name(plan: Plan, tier: str) -> str:
    """Name of a tier's table. It differs per build, because VLMEvalKit caches decoded images by table and row."""
    return f"IIT_{tier}_{plan.benchmark.rows_sha256[:8]}"


def files(plan: Plan, advance: Advance) -> Iterator[File]:
    """All files but README and manifest."""
    for tier in plan.tiers:
        rows = {str(index): row for index, _, row in plan.rows(tier, _row, advance)}
        table = _table_that_pandas_keeps(rows, plan)
        plan.record_written(tier, len(rows))
        yield f"{table_name(plan, tier)}.tsv", table


# ---------------------------------------------------------------- rows


def _row(resolved: ResolvedDialogue) -> Row | LeftOut:
    """A dialogue as a row, or why it cannot be one."""
    if resolved.images and any(_MARK.search(question.question) for question in resolved.questions):
        return LeftOut("a text holds <image k>, which would be taken for a mark")
    target = resolved.target
    row = {"question": _flattened(resolved), **dict(zip(LETTERS, target.choices, strict=False)), "answer": LETTERS[target.answer]}
    row |= {"category": target.subject, "l2-category": target.source, "dialogue": resolved.dialogue.id, "target": target.id}
    return row | ({"image": _image_cell(resolved.images)} if resolved.images else {})


def _flattened(resolved: ResolvedDialogue) -> str:
    """Text of the cell `question`: all turns, without the last one's choices, which VLMEvalKit adds."""
    image_number = count(1)
    questions = resolved.questions
    connectors = resolved.dialogue.connectors or ("",) * len(questions)
    turns = [
        (f"{connector}\n" if connector else "") + _marked(question, image_number, is_single=len(questions) == 1)
        for question, connector in zip(questions, connectors, strict=True)
    ]
    earlier = [f"{text}\n{_answered(question)}" for text, question in zip(turns[:-1], questions[:-1], strict=True)]
    return "Question: ".join([*earlier, turns[-1]])


def _marked(question: Question, image_number: Iterator[int], is_single: bool) -> str:
    """A question with its image marks. VLMEvalKit shows images first, so a single question in that order needs none."""
    parts = question_parts(question)
    if is_single and parts[: len(question.images)] == question.images:
        return "".join(part for part in parts if isinstance(part, str)).removeprefix("\n")
    return "".join(part if isinstance(part, str) else f"<image {next(image_number)}>" for part in parts)


def _answered(question: Question) -> str:
    """The text after an earlier question: the choices in VLMEvalKit's own words, and the gold answer."""
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, question.choices, strict=False))
    request = "Please select the correct answer from the options above. \n"
    return f"Options:\n{options}{request}Answer: {LETTERS[question.answer]}\n\n"


def _image_cell(images: Sequence[Image]) -> str:
    """Base64 of files that VLMEvalKit, which saves every image as PNG on black, shows as this project's models see them."""
    texts = [base64.b64encode(portable(image)[0]).decode() for image in images]
    return texts[0] if len(texts) == 1 else str(texts)


# ---------------------------------------------------------------- the table


def _table_that_pandas_keeps(rows: dict[str, Row], plan: Plan) -> bytes:
    """The table of the rows that pandas, VLMEvalKit's reader, reads unchanged; the others are removed from `rows` and counted.

    pandas infers types per column, so how it reads a cell depends on the other rows: rows are removed until none changes.
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
    """The rows as tab-separated text. An image that an earlier row has is written as that row's index."""
    used_columns = {name for row in rows.values() for name in row}
    columns = ["index", "question", *(letter for letter in LETTERS if letter in used_columns), *_LAST_COLUMNS]
    columns += ["image"] if "image" in used_columns else []
    first_index: dict[str, str] = {}  # image cell -> index of the first row that has it
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for index, row in rows.items():
        cells = row | {"index": index}
        if "image" in row and (earlier := first_index.setdefault(row["image"], index)) != index:
            cells["image"] = earlier
        writer.writerow([cells.get(name, "") for name in columns])
    return text.getvalue().encode()


def _changed(table: bytes, rows: dict[str, Row]) -> list[str]:
    """Indices of rows that pandas, called as VLMEvalKit calls it, reads with another text in a cell or with other cells."""
    import pandas as pd

    if not rows:
        return []
    frame = pd.read_csv(io.BytesIO(table), sep="\t").drop(columns="image", errors="ignore")
    rows_read = ({name: str(cell) for name, cell in record.items() if not pd.isna(cell)} for record in frame.to_dict("records"))
    rows_written = ({name: cell for name, cell in (row | {"index": index}).items() if name != "image"} for index, row in rows.items())
    return [written["index"] for written, read in zip(rows_written, rows_read, strict=True) if written != read]

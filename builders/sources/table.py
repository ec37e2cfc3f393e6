"""Tables of one's own: `--text my.jsonl`, `--visual pictures.parquet`, `--text hub:ORG/NAME` (docs/how-to/my-data.md).

`table:PATH` or just the path of a .jsonl, .json, .csv, .tsv or .parquet file; `hub:ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]]`, a data set
of the Hub, or of `--data-root` if that is given: its split test, else validation. `--columns` names the columns, `--answers` how answers
name the right choice. The name of a source is the file's name without its folder, so that tables are the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from builders.sources.answers import AUTO, YES_NO, Answered, parse_answers, read_answers
from builders.sources.base import SourceOptions, SourceQuestions
from builders.sources.columns import Columns, Record, as_list, as_text, columns_of, parse_columns
from builders.sources.hub import HUB, Origin, locate
from builders.sources.language import language_of
from builders.sources.pictures import CellReader, images_sha256, marked
from builders.sources.records import records
from iit_bench.errors import UserError
from iit_bench.images import UNREADABLE
from iit_bench.storage.format import files_sha256
from iit_bench.types import Image, Question

TABLE = "table:"
_PEEKED = 100  # records whose columns are looked at; JSON records may lack some


def load(name: str, options: SourceOptions) -> SourceQuestions:
    """Questions of a table.

    Raises:
        UserError: no such table, one that cannot be read, missing columns, or answers that can be read in several ways.
    """
    if name.startswith(HUB):
        source, origin = name, locate(name, options)
    else:
        path = Path(name.removeprefix(TABLE))
        source, origin = path.name, Origin(files=(path,), origin=f"table {path.name}")
    columns, answers = parse_columns(options.columns), parse_answers(options.answers)
    reader = _Reader(
        source,
        columns={**columns.get("", {}), **columns.get(name, {})},
        answers=answers.get(name, answers.get("", AUTO)),
        language=options.language,
    )
    questions = reader.questions(origin.files)
    return SourceQuestions(
        name=source,
        questions=tuple(questions),
        split=origin.split,
        licence=origin.licence,
        origin=origin.origin,
        revision=origin.revision,
        sha256=files_sha256(origin.files),
        left_out=dict(reader.left_out),
        answers=reader.reading,
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A record with its images and without its other cells."""

    number: int  # 1-based
    id: str
    question: str
    images: tuple[Image, ...]
    choices: tuple[str, ...]
    answer: Any
    labels: tuple[str, ...]
    subject: str
    cluster: str
    language: str


class _Reader:
    """One table, while it is read."""

    def __init__(self, source: str, *, columns: dict[str, str], answers: str, language: str) -> None:
        self._source, self._given, self._how, self._language = source, columns, answers, language
        self.left_out: Counter[str] = Counter()
        self.reading = ""

    def questions(self, files: Sequence[Path]) -> list[Question]:
        """The questions of the files, in their order; records left out are counted."""
        rows = [row for row in self._rows(files) if not self._counted(row)]
        answers = self._answers([row for row in rows if isinstance(row, _Row)])
        made = []
        for row, answer in zip(rows, answers, strict=True):
            assert isinstance(row, _Row)
            if answer is None:
                self.left_out["answer outside the choices"] += 1
            else:
                made.append(self._question(row, answer))
        return made

    def _counted(self, row: _Row | str) -> bool:
        if isinstance(row, str):
            self.left_out[row] += 1
        return isinstance(row, str)

    # ------------------------------------------------------------ records

    def _rows(self, files: Sequence[Path]) -> Iterator[_Row | str]:
        """Each record as a row, or the reason why it is none."""
        number = 0
        for path in files:
            stream = records(path)
            first = list(islice(stream, _PEEKED))
            if not first:
                raise UserError(f"table {str(path)!r} has no rows; give one that has")
            there = list(dict.fromkeys(column for record in first for column in record))
            columns = columns_of(self._source, self._given, there)
            images = CellReader(path.parent)
            for record in chain(first, stream):
                number += 1
                yield self._row(number, record, columns, images)

    def _row(self, number: int, record: Record, columns: Columns, reader: CellReader) -> _Row | str:
        answer = columns.cell("answer", record)
        choices, labels = self._list("choices", record, columns), self._list("labels", record, columns)
        if isinstance(named := columns.cell("choices", record), Mapping):  # {"A": "rust", "B": "coal"}
            present = {label: text for label, text in named.items() if text is not None}  # parquet fills in what other rows have
            choices, labels = tuple(map(as_text, present.values())), tuple(map(as_text, present))
        if choices is None or labels is None:
            return "choices are not a list of texts" if choices is None else "labels are not a list of texts"
        if len(choices) < 2 and "choices" in columns.of:
            return "fewer than two choices"
        if isinstance(answer, (list, tuple)):
            return "several correct answers" if len(answer) != 1 else "answer is a list"
        if as_text(answer) == "":
            return "no answer"
        images = reader.images(columns.cell("images", record))
        if images is None:
            return UNREADABLE
        placed = marked(columns.text("question", record), images)
        if placed is None:
            return "image marks do not fit the images"
        return _Row(
            number=number,
            id=columns.text("id", record) or str(number - 1),
            question=placed[0],
            images=placed[1],
            choices=choices,
            answer=answer,
            labels=labels,
            subject=columns.text("subject", record) or "all",
            cluster=columns.text("cluster", record),
            language=columns.text("language", record),
        )

    def _list(self, field: str, record: Record, columns: Columns) -> tuple[str, ...] | None:
        """A cell of choices or labels; () if the table has no such column, None if it is no list of texts or numbers."""
        if field not in columns.of:
            return ()
        items = as_list(columns.cell(field, record))
        if items is None or any(isinstance(item, (dict, list, tuple, bytes)) for item in items):
            return None
        return tuple(map(as_text, items))

    # ------------------------------------------------------------ answers

    def _answers(self, rows: Sequence[_Row]) -> list[int | None]:
        """Per row the index of the right choice, None for none."""
        if rows and not any(row.choices for row in rows):
            return self._yes_or_no(rows)
        answered = [Answered(row=row.number, cell=row.answer, choices=row.choices, labels=row.labels) for row in rows]
        self.reading, indices = read_answers(self._source, answered, self._how)
        return indices

    def _yes_or_no(self, rows: Sequence[_Row]) -> list[int | None]:
        """Of a table without choices: 0 for Yes, 1 for No."""
        names = {"yes": 0, "no": 1}
        indices = [(0 if row.answer else 1) if isinstance(row.answer, bool) else names.get(as_text(row.answer).casefold()) for row in rows]
        if all(index is None for index in indices):
            raise UserError(
                f"table {self._source!r} has no column of choices, and its answers are not Yes or No (row {rows[0].number} has "
                f"{as_text(rows[0].answer)!r}); name the choices with --columns choices=COLUMN"
            )
        self.reading = YES_NO
        return indices

    def _question(self, row: _Row, answer: int) -> Question:
        choices = row.choices or ("Yes", "No")
        question_id = f"{self._source}/{row.id}"
        shared = hashlib.sha256(row.cluster.encode("utf-8", "surrogatepass")).hexdigest()[:16] if row.cluster else images_sha256(row.images)
        return Question(
            id=question_id,
            modality="V" if row.images else "T",
            source=self._source,
            subject=row.subject,
            cluster=f"{self._source}/{shared}" if shared else question_id,
            language=language_of(" ".join((row.question, *row.choices)), self._language, row.language),
            question=row.question,
            images=row.images,
            choices=choices,
            answer=answer,
            answer_text=choices[answer],
        )

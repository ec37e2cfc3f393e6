"""`vlmeval:NAME`: any multiple-choice or yes/no table of VLMEvalKit; `vlmeval:PATH.tsv`: any table in its format.

With `--data-root DIR` the table is `DIR/NAME.tsv` or `DIR/LMUData/NAME.tsv`; without, VLMEvalKit's own code fetches it. The file is
streamed: images are hashed and decoded once, then read from it again when they are written (a table may have many gigabytes).

Columns: index, question, answer; A, B, C … for multiple choice (none for yes/no); image (base64, a list of them, or another row's index) or
image_path; of two rows with one index the first counts; optional: hint, category, l2-category, split, g_index, language.
"""

from __future__ import annotations

import csv
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from builders.sources.base import SourceOptions, SourceQuestions, StoredImage
from builders.sources.language import language_of
from builders.sources.pictures import MARK, decoded, images_sha256, inside, listed, marked, of_file, stored
from iit_bench.data.fetched import check_unchanged
from iit_bench.errors import UserError, one_line
from iit_bench.images import UNREADABLE
from iit_bench.storage.format import files_sha256
from iit_bench.tools.vlmevalkit import FIELD_LIMIT, fetch, licence_of_table, local_table
from iit_bench.types import Question

PREFIX = "vlmeval:"
REFERENCE = 64  # characters; a longer image cell is base64, a shorter one is the index of the row that has the image
DUPLICATE = "duplicate id"  # the reason that a build counts for two questions of one id
CIRCULAR = 10**6  # circular copies of row i have index i + k · CIRCULAR
SPLITS = (("test",), ("validation", "val"))  # evaluation splits, best first; of a table with none of them all rows are read
# Languages of VLMEvalKit's own tables in Latin script; of all others a row's script decides.
LANGUAGES = {"MMBench_dev_pt": "pt", "MMBench_dev_tr": "tr", "MMMB_pt": "pt", "MMMB_tr": "tr", "MMStar_TR": "tr"}

Cells = Mapping[str, str]  # column → text


def load(name: str, options: SourceOptions) -> SourceQuestions:
    """Questions of a table.

    Raises:
        UserError: no such table, or one without a question or answer column.
    """
    table = name.removeprefix(PREFIX)
    own = Path(table) if table.casefold().endswith(".tsv") else None
    if own is not None:  # named without its folder, so that tables are the same on every machine
        table, name = own.stem, PREFIX + own.stem
        if not own.is_file():
            raise UserError(f"there is no table {str(own)!r}; check its path")
    path = own or (fetch(table) if options.data_root is None else local_table(table, options.data_root))
    revision = check_unchanged(options.data_root, [path]) if options.data_root is not None and own is None else ""
    declared = options.language if own else LANGUAGES.get(table, options.language)
    questions, left_out, split = _Table(name, table, path, declared).read()
    return SourceQuestions(
        name=name,
        questions=tuple(questions),
        split=split,
        licence="unknown" if own else licence_of_table(table),
        origin=f"VLMEvalKit table {table}.tsv",
        revision=revision,
        sha256=files_sha256([path]),
        left_out=dict(left_out),
    )


def rows(path: Path) -> Iterator[tuple[int, Cells]]:
    """Byte offset and cells of every row. Column names other than A, B, C … are in lower case, as VLMEvalKit reads them.

    Raises:
        UserError: not a table in UTF-8.
    """
    try:
        with path.open("rb") as file:
            lines = _Lines(file)
            header = next(_cells(lines), [])
            columns = [name if name in string.ascii_uppercase else name.lower() for name in header]
            start = lines.offset
            for cells in _cells(lines):
                yield start, dict(zip(columns, cells, strict=False))
                start = lines.offset
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{str(path)!r} is not a tab-separated table in UTF-8 ({one_line(error)}); fetch it again") from error


class _Lines:
    """Lines of a binary file as text; `offset` counts the bytes read so far."""

    def __init__(self, file: Iterator[bytes], offset: int = 0) -> None:
        self._file = file
        self.offset = offset

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.offset += len(line)
        return line.decode("utf-8-sig" if self.offset == len(line) else "utf-8")


def _cells(lines: Iterator[str]) -> Iterator[list[str]]:
    """Rows as lists of cells. csv's limit on the size of a cell is process-wide: it is raised for each row and restored."""
    reader = csv.reader(lines, delimiter="\t")
    while True:
        limit = csv.field_size_limit(FIELD_LIMIT)
        try:
            cells = next(reader, None)
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        if cells:
            yield cells


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row without its images."""

    index: str
    offset: int
    cells: Cells  # without the image cell
    images: tuple[StoredImage, ...] | None  # its own, () if it has none; None = one is unreadable
    reference: str  # index of the row that has its images; "" = it has its own, or none


class _Table:
    """One table, while it is read."""

    def __init__(self, source: str, name: str, path: Path, language: str) -> None:
        self._source, self._name, self._path = source, name, path
        self._language = language  # of rows that state none and whose script does not decide it
        self._images: dict[str, tuple[StoredImage, ...] | None] = {}  # index → images of the first row that has it and has images
        self._left_out: Counter[str] = Counter()

    def read(self) -> tuple[list[Question], Counter[str], str]:
        """Questions in the table's order, records left out by reason, name of the split."""
        evaluated, split = self._evaluated(self._scan())
        indices = {row.index for row in evaluated}
        seen: set[str] = set()
        questions = []
        for row in evaluated:
            question = DUPLICATE if row.index in seen else "circular copy" if _is_copy(row, indices) else self._question(row)
            seen.add(row.index)
            if isinstance(question, Question):
                questions.append(question)
            else:
                self._left_out[question] += 1
        return questions, self._left_out, split

    def _scan(self) -> list[_Row]:
        """All rows; images are hashed and decoded on the way and not kept."""
        table_rows = []
        for number, (offset, cells) in enumerate(rows(self._path)):
            if number == 0:
                self._check_columns(cells)
            index = cells.get("index", "") or str(number)
            cell = cells.get("image", "")
            images: tuple[StoredImage, ...] | None = ()
            if len(cell) > REFERENCE:
                images = stored(decoded(cell), partial(_image_at, self._path, offset))
            elif not cell and cells.get("image_path"):
                images = self._from_files(cells["image_path"])
            if images != ():
                self._images.setdefault(index, images)
            reference = cell if len(cell) <= REFERENCE else ""
            rest = {key: value for key, value in cells.items() if key != "image"}
            table_rows.append(_Row(index=index, offset=offset, cells=rest, images=images, reference=reference))
        if not table_rows:
            raise UserError(f"table {str(self._path)!r} has no rows; fetch it again")
        return table_rows

    def _check_columns(self, cells: Cells) -> None:
        for column in ("question", "answer"):
            if column not in cells:
                why = " (VLMEvalKit does not publish the answers of some test tables)" if column == "answer" else ""
                raise UserError(f"table {str(self._path)!r} has no {column!r} column{why}; choose a table that has one")

    def _evaluated(self, table_rows: list[_Row]) -> tuple[list[_Row], str]:
        """Rows and name of the best evaluation split; rows of another split are counted as left out."""
        present = {row.cells.get("split", "").casefold() for row in table_rows}
        for names in SPLITS:
            wanted = present.intersection(names)
            if wanted:
                kept = [row for row in table_rows if row.cells.get("split", "").casefold() in wanted]
                for row in table_rows:
                    if row.cells.get("split", "").casefold() not in wanted:
                        self._left_out[f"of another split ({row.cells.get('split') or 'unnamed'})"] += 1
                return kept, names[0]
        return table_rows, ", ".join(sorted(filter(None, present))) or "all rows"

    def _from_files(self, cell: str) -> tuple[StoredImage, ...] | None:
        """Images in files beside the table: `images/NAME/…`, as VLMEvalKit unpacks them, or a path from the table's folder."""
        images: list[StoredImage] = []
        for name in listed(cell):
            folders = (self._path.parent / "images" / self._name, self._path.parent / "images", self._path.parent)
            inside(self._path.parent, name)  # refuses what leaves the table's folder
            path = next((path for folder in folders if folder.is_dir() and (path := inside(folder, name))), None)
            image = of_file(path) if path else None
            if image is None:
                return None
            images += image
        return tuple(images)

    def _question(self, row: _Row) -> Question | str:
        """The question of a row, or the reason why it has none."""
        if row.reference and row.reference not in self._images:
            return "refers to the image of a row that is not there"
        images = self._images[row.reference] if row.reference else row.images
        if images is None:
            return UNREADABLE
        choices, answer = _choices(row.cells)
        if isinstance(answer, str):
            return answer
        if any(MARK.search(choice) for choice in choices):
            return "images as choices"
        placed = marked(row.cells["question"].strip(), images)
        if placed is None:
            return "image marks do not fit the images"
        text, ordered_images = placed
        hint = row.cells.get("hint", "").strip()
        return Question(
            id=f"{self._source}/{row.index}",
            modality="V" if ordered_images else "T",
            source=self._source,
            subject=row.cells.get("category") or row.cells.get("l2-category") or "all",
            cluster=f"{self._source}/{images_sha256(images) or row.index}",
            language=language_of(" ".join((text, *choices)), self._language, row.cells.get("language", "")),
            question=f"{hint}\n{text}" if hint else text,
            images=ordered_images,
            choices=choices,
            answer=answer,
            answer_text=choices[answer],
        )


# ---------------------------------------------------------------- cells


def _choices(cells: Cells) -> tuple[tuple[str, ...], int | str]:
    """The choices and the index of the gold one, or the reason why there is none."""
    options = {letter: cells[letter] for letter in string.ascii_uppercase if cells.get(letter)}
    answer = cells.get("answer", "").strip()
    if not answer:
        return (), "no answer"
    if not options:
        if answer.casefold() in ("yes", "no"):
            return ("Yes", "No"), 0 if answer.casefold() == "yes" else 1
        return (), "open question without choices"
    choices = tuple(option.strip() for option in options.values())
    if answer in options:
        return choices, list(options).index(answer)
    return choices, choices.index(answer) if answer in choices else "answer outside the choices"


def _is_copy(row: _Row, indices: set[str]) -> bool:
    """Whether a row repeats another with rotated choices (VLMEvalKit's circular evaluation)."""
    if group := row.cells.get("g_index"):
        return group != row.index and group in indices
    return row.index.isdecimal() and int(row.index) >= CIRCULAR and str(int(row.index) % CIRCULAR) in indices


def _image_at(path: Path, offset: int, position: int) -> bytes:
    """Read one image again from the row that starts at `offset`."""
    with path.open("rb") as file:
        columns = next(_cells(_Lines(file)))
        file.seek(offset)
        cells = next(_cells(_Lines(file, offset)))
    return decoded(dict(zip([name.lower() for name in columns], cells, strict=False))["image"])[position]

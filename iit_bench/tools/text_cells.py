"""VLMEvalKit's tables with cells as text.

VLMEvalKit reads its tables and result files with pandas' guesses: "None", "NA" and "null" are empty cells (an option of that name is not
shown), and a column of numbers becomes floats as soon as one of its cells is empty or has a decimal point ("3" is then "3.0", and wrong).
Here a cell of a column that holds words is the text in the file; only columns that VLMEvalKit computes with are guessed. Gold answers with
which a data set's own scoring may compute are numbers where their text is a number's, each by itself, whatever the other rows hold.
"""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Columns of words in every table of VLMEvalKit, beside A, B, C …; an empty cell of `prediction` is the empty reply.
SHOWN = frozenset(("question", "hint", "prediction", "thinking", "image", "image_path"))
# Columns that the scoring of most tables reads as words; a data set with scoring of its own may compute with them.
SCORED = SHOWN | {"answer", "extracted", "split", "category", "l2-category", "l2_category", "log"}
# What pandas takes for an empty cell, in columns that it guesses (pandas' documentation of `read_csv`, na_values).
_EMPTY = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN"]
_EMPTY += ["None", "n/a", "nan", "null"]


class TextCells:
    """pandas, as VLMEvalKit's file module is to see it: `read_csv` keeps the cells of `columns` and of A, B, C … as text.

    Attributes:
        columns: names in lower case of the columns that hold words.
    """

    def __init__(self) -> None:
        self.columns = SCORED

    def __getattr__(self, name: str) -> Any:
        import pandas

        return getattr(pandas, name)

    def read_csv(self, path: Any, **how: Any) -> Any:
        """pandas' `read_csv` of a file with a header; an index of whole numbers only is a column of integers, any other is text."""
        import pandas

        header = [str(name) for name in pandas.read_csv(path, nrows=0, **how).columns]
        words = [name for name in header if self._holds_words(name)]
        as_text = [*words, *(name for name in header if name in ("index", "answer"))]
        empty = {name: [""] if name in as_text else _EMPTY for name in header} | {"prediction": []}
        frame = pandas.read_csv(path, dtype=dict.fromkeys(as_text, "str"), keep_default_na=False, na_values=empty, **how)
        if "index" in frame and all(isinstance(cell, str) and _is_whole(cell) for cell in frame["index"]):
            frame["index"] = [int(cell) for cell in frame["index"]]
        if "answer" in frame and "answer" not in words:
            answers = [_by_itself(cell) for cell in frame["answer"]]
            kinds = {type(answer) for answer in answers}
            frame["answer"] = pandas.Series(answers, index=frame.index, dtype=None if len(kinds) == 1 else object)
        return frame

    def _holds_words(self, name: str) -> bool:
        return name in string.ascii_uppercase or name.lower() in self.columns


def _is_whole(cell: str) -> bool:
    return cell.isascii() and cell.removeprefix("-").isdigit() and str(int(cell)) == cell


def _by_itself(cell: Any) -> Any:
    """A number where the cell's text is how Python writes that number, so that `str` gives the text again; else the cell."""
    if not isinstance(cell, str) or not cell[-1:].isdigit():
        return cell
    if _is_whole(cell):
        return int(cell)
    try:
        return float(cell) if str(float(cell)) == cell else cell
    except ValueError:
        return cell


@dataclass(frozen=True)
class Guess:
    """A cell that pandas' guesses change."""

    index: str  # VLMEvalKit's, of the row
    column: str
    text: str  # in the file
    guess: str | None  # what VLMEvalKit would read; None = an empty cell


def guesses(frame: Any, columns: Iterable[str]) -> Iterator[Guess]:
    """The cells of a table with text cells that VLMEvalKit would read otherwise, column by column. Empty cells are not among them."""
    import pandas

    for column in columns:
        texts = [cell if isinstance(cell, str) else "" for cell in frame[column]]
        file = io.StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["cells"], *([text] for text in texts)])
        file.seek(0)
        guessed = pandas.read_csv(file)["cells"]
        for index, text, guess in zip(frame["index"], texts, guessed, strict=True):
            if text and (pandas.isna(guess) or str(guess) != text):
                yield Guess(str(index), column, text, None if pandas.isna(guess) else str(guess))

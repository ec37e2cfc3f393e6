"""One part of a data set: VLMEvalKit's class, with its table's rows made unique, and pictures shown as everywhere in this project.

For use in the process of `evaluators.vqa.worker`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path, PurePath
from typing import Any, ClassVar

from iit_bench.errors import UserError, described
from iit_bench.images import UnreadableImageError, decoding_errors, portable
from iit_bench.types import Image

REFERENCE = 64  # characters; a longer image cell is base64, a shorter one is the index of the row that has the image
# A stand-in cell, longer than a reference to another row, for rows without an image; never decoded.
_NO_IMAGE = base64.b64encode(b"this row has no image: it is asked as text alone, and told apart").decode()
# What VLMEvalKit's classes raise on a row that they cannot make a prompt of.
_BROKEN_ROW = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, OSError, SyntaxError, TypeError, ValueError)


def build(task: str, base: Any, part: str, own_yes_no: bool = False) -> Any:
    """One part of a data set; it may have no rows. What differs from VLMEvalKit's own class is in these attributes:

    * `rows_without_image`: how many of the table's rows have none. VLMEvalKit leaves them out; part "no-image" is of them.
    * `repeated`: indices of rows left out because an earlier row has the same index. VLMEvalKit would ask them with the last one's image.
    * `unanswered`: indices of rows without a gold answer. They count as wrong, as VLMEvalKit counts them.
    * `redrawn`: indices of rows with a picture that VLMEvalKit would show otherwise, filled as prompts are made.
    * `unaskable`: index -> why VLMEvalKit cannot make a prompt of the row, filled as prompts are made.

    Args:
        task: the data set.
        base: VLMEvalKit's class for it.
        part: "main", or "no-image".
        own_yes_no: the class is one for yes/no that VLMEvalKit does not itself choose for this table: gold answers may be in lower case.

    Raises:
        UserError: VLMEvalKit cannot read the table.
    """
    import pandas as pd

    class Built(base):  # type: ignore[misc, valid-type]
        DATASET_MD5: ClassVar[dict[str, str]] = {}  # a table of another version is noted in the results, not replaced by a download

        def load_data(self, dataset: str) -> Any:
            self.redrawn: dict[str, None] = {}
            self.unaskable: dict[str, str] = {}
            data = super().load_data(dataset)
            again = data["index"].astype(str).duplicated()
            self.repeated = [str(index) for index in data["index"][again]]
            if self.repeated:  # not otherwise: a table of images may fill the memory once, not twice
                data = data[~again].reset_index(drop=True)
            _check_references(task, data)
            self.unanswered = [str(index) for index in data["index"][pd.isna(data["answer"])]]
            if own_yes_no:
                data["answer"] = data["answer"].str.capitalize()  # VLMEvalKit compares with "Yes" and "No"
            without = data[pd.isna(data["image"])] if "image" in data else data.iloc[:0]
            self.rows_without_image = len(without)
            return data if part == "main" else without.assign(image=_NO_IMAGE)

        def build_prompt(self, line: Any, *more: Any, **named: Any) -> Any:
            try:
                return super().build_prompt(line, *more, **named)
            except _BROKEN_ROW as error:
                index = str((self.data.iloc[line] if isinstance(line, int) else line)["index"])
                self.unaskable[index] = described(error)
                return [{"type": "text", "value": f"row {index} cannot be asked"}]  # never shown to a model

        def dump_image(self, line: Any) -> list[str]:
            if part == "no-image":
                return []
            if "image" not in line:
                return list(super().dump_image(line))
            cells = line["image"] if isinstance(line["image"], list) else [line["image"]]
            plain = [_plain(cell) for cell in cells]
            if None in plain:
                return _unchanged(cells, Path(self.img_root))
            if plain != cells:
                self.redrawn[str(line["index"])] = None
            names = _names(line, cells, Path(self.img_root))
            own = dict(line)  # a row of pandas takes no list for a cell
            own["image"], path = (plain, names) if isinstance(line["image"], list) else (plain[0], names[0])
            own["image_path"] = path
            try:
                return list(super().dump_image(own))
            except decoding_errors():
                return _unchanged(cells, Path(self.img_root))

    Built.__name__ = base.__name__
    try:
        return Built(dataset=task)
    except (AssertionError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"VLMEvalKit cannot read table {task}.tsv ({described(error)}); fetch it again") from error


def _check_references(task: str, data: Any) -> None:
    """Refuse a row whose image cell names a row without one of its own: VLMEvalKit ends without naming it."""
    if "image" not in data:
        return
    holders = {
        str(index) for index, cell in zip(data["index"], data["image"], strict=True) if isinstance(cell, str) and len(cell) > REFERENCE
    }
    for index, cell in zip(data["index"], data["image"], strict=True):
        if isinstance(cell, str) and len(cell) <= REFERENCE and cell not in holders:
            raise UserError(
                f"VLMEvalKit cannot read table {task}.tsv: the image of row {str(index)!r} is {cell!r}, "
                "which is neither base64 nor the index of a row that has an image; correct the row, or fetch the table again"
            )


# ---------------------------------------------------------------- pictures


def _plain(cell: str) -> str | None:
    """A cell with the picture as this project shows it, where VLMEvalKit, which saves pictures on black and as they lie, does not.

    None for one that is not read here: VLMEvalKit would open it without limits of pixels, and formats that run other programs.
    """
    data = _decoded(cell)
    try:
        shown = portable(Image(data))[0]
    except UnreadableImageError:
        return None
    return cell if shown is data else base64.b64encode(shown).decode()


_WRITTEN: dict[Path, str] = {}  # file of a picture in this process -> the cell it is of, hashed


def _names(line: Any, cells: list[str], folder: Path) -> list[str]:
    """File names of a row's pictures in its data set's folder: VLMEvalKit's own, and others where one is another picture's already.

    VLMEvalKit never writes a file anew: of two rows that name one file, or have one index in two data sets with one folder, the second
    would show the first one's picture. A name that leads out of the folder is replaced as well.
    """
    index = line["index"]
    if "image_path" in line:
        names = line["image_path"] if isinstance(line["image_path"], list) else [line["image_path"]]
    else:
        names = [f"{index}_{number}.png" for number in range(len(cells))] if isinstance(line["image"], list) else [f"{index}.png"]
    hashes = [hashlib.sha256(cell.encode()).hexdigest()[:16] for cell in cells]
    pairs = list(zip(names, hashes, strict=True))
    inside = all(not PurePath(name).is_absolute() and ".." not in PurePath(name).parts for name in names)
    if inside and all(_WRITTEN.setdefault(folder / name, of_cell) == of_cell for name, of_cell in pairs):
        return names
    return [f"{of_cell}/{PurePath(name).name}" for name, of_cell in pairs]


def _unchanged(cells: list[str], folder: Path) -> list[str]:
    """Paths of a row's images, written as they are: the model refuses this item only."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for cell in cells:
        data = _decoded(str(cell))
        paths.append(folder / f"unreadable_{hashlib.sha256(data).hexdigest()[:16]}.png")  # an index may be a path
        paths[-1].write_bytes(data)
    return list(map(str, paths))


def _decoded(cell: str) -> bytes:
    try:
        return base64.b64decode(cell)
    except (binascii.Error, ValueError):
        return cell.encode()

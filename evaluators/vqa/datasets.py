"""VLMEvalKit's image data sets, built from tables in the scratch folder, so that images of another version of a table are never reused.

For use in the process of `evaluators.vqa.worker`, inside `tools.vlmevalkit.kit` and with the scratch folder's `lmu` as `$LMUData`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import string
from collections.abc import Hashable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluators.vqa.built import build
from evaluators.vqa.notes import count_guesses
from evaluators.vqa.presets import EASYVQA
from evaluators.vqa.protocol import Exchange
from iit_bench.data import easyvqa
from iit_bench.data.fetched import check_unchanged
from iit_bench.errors import UserError, described, one_line
from iit_bench.storage.format import sha256_file
from iit_bench.tools.text_cells import SCORED, SHOWN, TextCells, guesses
from iit_bench.tools.vlmevalkit import DATA_FOLDER, FIELD_LIMIT, USERS_DATA, dataset_class, download, local_table, tame

LMU = Exchange(Path()).lmu  # the scratch folder is the current one
# What a row must have for `unit_of`.
_COUNTED_BY = {
    "circular": "copies of a question have whole numbers as indices, a million apart, or a column 'g_index'",
    "mme": "it needs the columns 'category' and 'image_path'",
    "hallusion": "it needs the columns 'category' and 'l2-category', and an index like HB_VD_illusion_0_1_0",
}
TURN = 10**6  # circular copies of row i have index i + k · TURN in tables without g_index


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one data set that are asked and scored together."""

    task: str
    name: str  # "main": the rows that VLMEvalKit scores; "no-image": those it leaves out
    dataset: Any  # vlmeval.dataset.image_base.ImageBaseDataset
    kind: str  # how it is scored: "choice", "circular", "yes/no", "mme", "hallusion", "open", "other"
    exact: bool  # open answers with one gold answer, in a table that VLMEvalKit has no rule for

    def clusters(self) -> list[str]:
        """Cluster of each row, a hash of its images: rows about one image depend on each other."""
        data = self.dataset.data
        column = next((name for name in ("image", "image_path") if name in data), None)
        if self.name != "main" or column is None:
            return [str(index) for index in data["index"]]
        cells = data[column]
        return [hashlib.sha256(str(cell).encode()).hexdigest()[:16] for cell in cells]


def parts_of(task: str, data_root: str | None, limit: int | None, vlmeval: SimpleNamespace) -> tuple[dict[str, Any], list[Part]]:
    """Facts of a data set, and its parts with at most `limit` units each.

    Args:
        task: the data set.
        data_root: a folder of tables; None = the user's own $LMUData, and downloads.
        limit: units per part; None = all.
        vlmeval: what `tools.vlmevalkit.kit` yields. How it reads cells is set for this data set.

    Raises:
        UserError: no such table, or one that VLMEvalKit cannot read.
    """
    known: Any = None if task == EASYVQA else dataset_class(task, vlmeval.root)
    path = _table(task, known, data_root)
    header = _header(path)
    if not _has_images(header) and (known or not _has_choices(header)):
        raise UserError(f"table {path.name!r} has neither a column 'image' nor 'image_path'; a text data set belongs to --suite text")
    base: Any = known or _custom_class(header, path)
    for ancestor in base.__mro__[:-1]:  # `evaluate` may be inherited
        tame(ancestor)
    kind = kind_of(task, base)
    exact = known is None and kind == "open"
    vlmeval.cells.columns = SHOWN if kind == "other" else SCORED
    facts = {"sha256": sha256_file(path), "type": str(base.TYPE), "class": base.__name__, "kind": kind, "exact": exact}
    facts["published"] = _is_published(task, base, path)
    parts: list[Part] = []
    for name in ("main", "no-image"):
        if parts and not parts[0].dataset.rows_without_image:
            break
        dataset = build(task, base, name, own_yes_no=known is None and kind == "yes/no")
        if name == "main":
            facts |= {"repeated": dataset.repeated, "unanswered": dataset.unanswered, "guessed": _guessed(dataset.data, vlmeval.cells)}
        if not len(dataset.data):
            continue
        facts[f"rows {name}"] = len(dataset.data)
        dataset.data = _limited(task, kind, dataset.data, limit)
        parts.append(Part(task=task, name=name, dataset=dataset, kind=kind, exact=exact))
    return facts, parts


# ---------------------------------------------------------------- tables


def _table(task: str, known: Any, data_root: str | None) -> Path:
    """Path `lmu/TASK.tsv`, a link to the table itself."""
    path = LMU / f"{task}.tsv"
    if path.exists():
        return path
    LMU.mkdir(exist_ok=True)
    if task == EASYVQA:
        write_easyvqa(path)
        return path
    if data_root is not None:
        table = local_table(task, Path(data_root))
        check_unchanged(Path(data_root), [table])
    else:
        table = _downloaded(task, known)
    path.symlink_to(table.resolve())
    images = table.resolve().parent / "images"
    if "image" not in _header(path) and images.is_dir():  # the images are files beside the table
        (LMU / "images").symlink_to(images)
    return path


def _downloaded(task: str, known: Any) -> Path:
    """The table in the user's own `$LMUData` or `~/LMUData`, downloaded if it is missing."""
    url = getattr(known, "DATASET_URL", {}).get(task)
    if not url:
        raise UserError(f"VLMEvalKit has no address for {task!r}; put {task}.tsv into a folder and give it with --data-root")
    user = os.environ.get(USERS_DATA)
    scratch = os.environ.pop(DATA_FOLDER)
    try:
        if user:
            os.environ[DATA_FOLDER] = user
        return download(task, url, getattr(known, "DATASET_MD5", {}).get(task) or "")
    finally:
        os.environ[DATA_FOLDER] = scratch


def _header(path: Path) -> list[str]:
    """Column names, other than A, B, C … in lower case, as VLMEvalKit reads them.

    Raises:
        UserError: not a table, or one that lacks a column that every data set has.
    """
    csv.field_size_limit(FIELD_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = next(csv.reader(file, delimiter="\t"), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path.name!r} is not a tab-separated table in UTF-8 ({one_line(error)}); fetch it again") from error
    for column in ("index", "question", "answer"):
        if column not in columns:
            why = " (VLMEvalKit does not publish the answers of some test tables)" if column == "answer" else ""
            raise UserError(f"table {path.name!r} has no column {column!r}{why}; choose a table that has one")
    return columns


def _has_images(columns: list[str]) -> bool:
    return "image" in columns or "image_path" in columns


def _has_choices(columns: list[str]) -> bool:
    return "A" in columns and "B" in columns


def _custom_class(header: list[str], path: Path) -> Any:
    """Class for a table that VLMEvalKit does not know: as its `build_dataset` chooses, and classes for yes/no and open answers."""
    if not _has_images(header):
        return import_module("vlmeval.dataset.text_mcq").CustomTextMCQDataset
    if _has_choices(header):
        return import_module("vlmeval.dataset.image_mcq").CustomMCQDataset
    with path.open(encoding="utf-8-sig", newline="") as file:
        answers = {(row.get("answer") or "").casefold() for row in csv.DictReader(file, delimiter="\t")}
    if answers - {""} <= {"yes", "no"}:
        return import_module("vlmeval.dataset.image_yorn").ImageYORNDataset
    return import_module("vlmeval.dataset.image_vqa").ImageVQADataset


def _is_published(task: str, base: Any, path: Path) -> bool | None:
    """Whether the table is the one that VLMEvalKit publishes; None if it states no checksum."""
    md5 = getattr(base, "DATASET_MD5", {}).get(task)
    if not md5:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == md5


def write_easyvqa(path: Path) -> None:
    """Write the official test split of easy-VQA as a VLMEvalKit table; an image is in its first row, to which later rows refer."""
    first: dict[int, int] = {}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "question", "answer", "category", "image"])
        for row in easyvqa.rows("test"):
            shared = first.setdefault(row.image_id, row.index)
            image = base64.b64encode(easyvqa.image_bytes("test", row.image_id)).decode() if shared == row.index else str(shared)
            writer.writerow([row.index, row.question, row.answer, row.subject, image])


# ---------------------------------------------------------------- data sets


def _guessed(data: Any, cells: TextCells) -> dict[str, Any]:
    """Count of the cells of prompts and gold answers that VLMEvalKit's own reader would change."""
    asked = {"question", "hint", "answer", *string.ascii_uppercase} & {*cells.columns, *string.ascii_uppercase}
    return count_guesses(guesses(data, [column for column in data.columns if column in asked]))


def kind_of(task: str, base: Any) -> str:
    """How VLMEvalKit scores a data set, by its class and, as VLMEvalKit itself decides, by parts of its name."""
    scores = base.evaluate.__qualname__
    if scores == "TextMCQDataset.evaluate":
        return "choice"
    if scores == "ImageMCQDataset.evaluate":
        return "circular" if any(piece in task.lower() for piece in ("mmbench", "ccbench", "circular", "mmcr")) else "choice"
    if scores == "ImageYORNDataset.evaluate":
        return "mme" if "MME" in task else "hallusion" if "Hallusion" in task else "yes/no"
    return "open" if scores == "ImageVQADataset.evaluate" else "other"


def unit_of(kind: str, row: Any) -> Hashable:
    """The rows that VLMEvalKit counts together: circular copies, MME's pairs, HallusionBench's sets; else the row."""
    if kind == "circular":
        return str(int(row["g_index"] if "g_index" in row else int(row["index"]) % TURN))
    if kind == "mme":
        return f"{row['category']}/{row['image_path']}"
    if kind == "hallusion":
        return "/".join((str(row["category"]), str(row["l2-category"]), str(row["index"]).split("_")[3]))
    return str(row["index"])


def units_of(task: str, kind: str, data: Any) -> list[Hashable]:
    """`unit_of` every row of a table.

    Raises:
        UserError: a row lacks what its data set is counted by.
    """
    units = []
    for _, row in data.iterrows():
        try:
            units.append(unit_of(kind, row))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"row {str(row['index'])!r} of table {task}.tsv cannot be counted as VLMEvalKit counts this data set: {_COUNTED_BY[kind]} "
                f"({described(error)}); correct the row, or give a table of your own another name"
            ) from error
    return units


def _limited(task: str, kind: str, data: Any, limit: int | None) -> Any:
    """The rows of the first `limit` units, of the evaluation split if a table has several."""
    if limit is None:
        return data
    if "split" in data:
        best = next((name for name in ("test", "validation", "val") if name in set(data["split"])), None)
        data = data if best is None else data[data["split"] == best]
    units = units_of(task, kind, data)
    kept = set(list(dict.fromkeys(units))[:limit])
    return data[[unit in kept for unit in units]]

"""Writes benchmark folders whole or not at all, and reads them with their hashes checked (docs/spec/iit.md#on-disk).

`questions/test-*.parquet` and `dialogues/test-*.parquet` (columns = fields of `types.Question` and `types.Dialogue`; how a record becomes
a row: tables.py), `manifest.json`, `README.md` (data set card).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.atomic import Content
from iit_bench.storage.format import BENCHMARK_FORMAT, hashed, read_header, sealed_json, sha256_file
from iit_bench.storage.inside import OutsideError, file_inside, stays_inside
from iit_bench.storage.schema import MANIFEST
from iit_bench.storage.tables import read_table, rows_sha256, write_table
from iit_bench.storage.whole_folders import save_folder
from iit_bench.types import Dialogue, Question, tier_order


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark folder."""

    path: Path
    manifest: Mapping[str, Any]
    questions: Mapping[str, Question]
    dialogues: tuple[Dialogue, ...]

    @property
    def rows_sha256(self) -> str:
        """Hash of the content, as in the manifest."""
        return self.manifest["rows_sha256"]

    @cached_property
    def tiers(self) -> tuple[str, ...]:
        """The tiers, from text-only to multimodal-rich."""
        return tuple(sorted({dialogue.tier for dialogue in self.dialogues}, key=tier_order))

    def chosen_tiers(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The tiers called `names`, from text-only to multimodal-rich; all for None.

        Raises:
            UserError: a tier that the benchmark lacks, or an empty list.
        """
        if unknown := [name for name in names or () if name not in self.tiers]:
            raise UserError(f"benchmark {str(self.path)!r} has no tier {', '.join(unknown)}; it has {', '.join(self.tiers)}")
        if names is not None and not names:
            raise UserError(f"--tiers names no tier; benchmark {str(self.path)!r} has {', '.join(self.tiers)}")
        return tuple(tier for tier in self.tiers if names is None or tier in names)


def save_benchmark(
    out: Path, questions: Iterable[Question], dialogues: Iterable[Dialogue], manifest: Mapping[str, Any], card: str, overwrite: bool = False
) -> Path:
    """Write a benchmark folder whole or not at all, and return its path.

    Format, version, files (with the sha256 of each) and rows_sha256 are added to `manifest`.

    Args:
        questions, dialogues: are gone through twice, and may make their records when they are asked for: no table is held in memory.

    Raises:
        UserError: `out` holds something else, or cannot be written.
    """
    return save_folder(out, _files(questions, dialogues, manifest, card), BENCHMARK_FORMAT, overwrite)


def _files(
    questions: Iterable[Question], dialogues: Iterable[Dialogue], manifest: Mapping[str, Any], card: str
) -> Iterator[tuple[str, Content]]:
    """The files of a benchmark folder; the manifest, which has the hashes of the others' bytes, is last."""
    hashes: dict[str, str] = {}
    tables: dict[str, tuple[type, Iterable[Any]]] = {"questions": (Question, questions), "dialogues": (Dialogue, dialogues)}
    written = ((f"{name}/test-00000-of-00001.parquet", partial(write_table, *table)) for name, table in tables.items())
    yield from hashed(written, hashes)
    full_manifest = {**manifest, "files": hashes, "rows_sha256": rows_sha256(questions, dialogues)}
    yield "README.md", card
    yield "manifest.json", sealed_json(BENCHMARK_FORMAT, full_manifest)


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a benchmark folder, without reading its tables.

    Raises:
        UserError: not a benchmark folder, or one of another version.
    """
    fix = "build one with `iit-bench build --out DIR`"
    manifest = read_header(folder, "manifest.json", BENCHMARK_FORMAT, "a benchmark folder", fix)
    return MANIFEST.check(manifest, repr(str(folder / "manifest.json")), fix)


def _file_of(folder: Path, name: str) -> Path | None:
    """A file that the manifest lists; None if it is not there.

    Raises:
        UserError: it lies outside the folder.
    """
    try:
        if not stays_inside(name):
            raise OutsideError(name)
        return file_inside(folder, name)
    except OutsideError as error:
        raise UserError(
            f"the manifest of benchmark {str(folder)!r} lists {name!r}, which leads out of the folder; build it again"
        ) from error


def load_benchmark(path: Path | str) -> Benchmark:
    """Read a benchmark folder and check its version and hashes.

    Raises:
        UserError: not a benchmark folder, of another version, incomplete, or changed after it was built.
    """
    folder = Path(path)
    manifest = load_manifest(folder)
    for name, expected in manifest["files"].items():
        if not _file_of(folder, name):
            raise UserError(f"benchmark {str(folder)!r} lacks its file {name!r}; build it again")
        if sha256_file(folder / name) != expected:
            raise UserError(f"{name!r} in benchmark {str(folder)!r} was changed after it was built (its sha256 differs); build it again")
    questions, dialogues = (
        read_table(record_type, [folder / name for name in sorted(manifest["files"]) if name.startswith(table)])
        for record_type, table in ((Question, "questions/"), (Dialogue, "dialogues/"))
    )
    known = {question.id: question for question in questions}
    for dialogue in dialogues:
        where = f"dialogue {dialogue.id!r} of benchmark {str(folder)!r}"
        if unknown := [turn for turn in dialogue.turns if turn not in known]:
            raise UserError(f"{where} has the turn {unknown[0]!r}, which is no question; build it again")
        if "".join(known[turn].modality for turn in dialogue.turns) != dialogue.tier:
            raise UserError(f"{where} has turns that are not of its tier; build it again")
    return Benchmark(folder, manifest, known, tuple(dialogues))

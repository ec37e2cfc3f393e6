"""Every record is checked before the first step: what cannot be trained on is counted by reason and left out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from iit_bench import progress
from iit_bench.errors import UserError, described
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.seals import is_whole, sealed
from iit_bench.terminal import write
from iit_bench.training import checkpoint
from iit_bench.training.chats import files, tallies
from iit_bench.training.chats.hub import HUB
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.chats.tallies import Refused
from iit_bench.training.recorded_paths import without_root
from iit_bench.training.records import LAB, Dialogues

CACHE = "data_check.json"  # in the training's folder, so that resuming does not check again


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the check of one source found.

    Attributes:
        source: as the recipe names it.
        sha256: of its files.
        encoding: hash of tokenizer, chat template, limits and how the records are read.
        revision: the commit of a data set on the Hub; else empty.
        records: how many there are.
        tokens: of all records that can be trained on, images included.
        labelled: of these, those that are learned.
        images: of the same records.
        refused: by reason.
        numbers: the refused records, ascending.
    """

    source: str
    sha256: str
    encoding: str
    records: int
    tokens: int
    labelled: int
    images: int
    refused: Mapping[str, Refused]
    numbers: Sequence[int] = field(repr=False)
    revision: str = ""

    @property
    def share(self) -> float:
        """Of the records, those refused."""
        return len(self.numbers) / self.records if self.records else 0.0


@dataclass(frozen=True)
class Report:
    """The check of a mixture."""

    parts: Sequence[Checked]

    def table(self) -> str:
        """One line per source, and one per reason."""
        return table([asdict(part) for part in self.parts])

    def as_json(self) -> list[dict[str, Any]]:
        """What `training.json` has of it: all but the refused records' numbers and the folders."""
        kept = []
        for part in self.parts:
            whole = asdict(part)
            del whole["numbers"]
            if not part.revision:
                del whole["revision"]
            kept.append(whole | {"source": part.source if part.source.startswith(HUB) else Path(part.source).name})
        return kept


def table(parts: Sequence[Mapping[str, Any]]) -> str:
    """The fields of `Checked` as lines: one per source, and one per reason."""
    lines = [f"{'data':<32} {'records':>9} {'refused':>9} {'images':>9} {'tokens':>13} {'learned':>13}"]
    for part in parts:
        name = part["source"] if len(part["source"]) <= 32 else "…" + part["source"][-31:]
        refused = sum(of["count"] for of in part["refused"].values())
        lines.append(f"{name:<32} {part['records']:>9,} {refused:>9,} {part['images']:>9,} {part['tokens']:>13,} {part['labelled']:>13,}")
        for reason, of in sorted(part["refused"].items()):
            lines.append(f"  {reason + ',':<30} {'':>9} {of['count']:>9,} first: {of['examples'][0]}")
    return "\n".join(lines)


def check(data: Dialogues, encoding: Encoding, folder: Path | None = None, bars: bool = False) -> tuple[Report, list[Source]]:
    """Check all records of a mixture's files.

    Args:
        data: the recipe's.
        encoding: of the model that is trained.
        folder: of the training; the result is kept there, and taken from there where nothing changed.
        bars: show progress.

    Returns:
        The report, and the opened sources in the order of the mixture's files; the lab's sources need no check.

    Raises:
        UserError: a file is missing or damaged as a whole, or not what the checkpoint in `folder` was trained on.
    """
    cache = folder / CACHE if folder is not None else None
    begun = folder is not None and checkpoint.find(folder) is not None
    known = _read(cache, begun)
    chosen = {name: one.revision for (name, _, _), one in known.items()} if begun else {}  # a branch may have moved since
    sources = [Source(part, encoding, chosen.get(part.source, "")) for part in data.mixture if not part.source.startswith(LAB)]
    parts = []
    for source in sources:
        named = source.part.source
        key = (without_root(named), files.sha256_of(source.paths), _key(source, data, data.pixels))
        if begun and key[1] not in (before := [sha256 for name, sha256, _ in known if name == key[0]]) and before:
            raise UserError(f"{named}: is not what this training began with; put it back, or train into another --out")
        # A training keeps the rows that it began with: before pixels were decoded by default, it began by headers.
        as_begun = known.get((*key[:2], _key(source, data, not data.pixels))) if begun else None
        kept = known.get(key)
        if kept and not begun and _is_mended(source, kept, data.pixels):
            kept = None
        found = kept or as_begun or _checked(source, key, data.pixels, bars)
        parts.append(replace(found, source=named))
    report = Report(parts)
    if cache is not None:
        recorded = [asdict(part) | {"source": without_root(part.source)} for part in parts]
        write_atomic(cache, json.dumps(sealed({"parts": recorded})) + "\n")
    return report, sources


def show(report: Report) -> None:
    """Print the table on standard error."""
    write(report.table(), file=sys.stderr, flush=True)


def refuse(report: Report, data: Dialogues) -> None:
    """End where too much of a source cannot be trained on.

    Raises:
        UserError: with the source, the share and the reasons.
    """
    for part in report.parts:
        if part.records == len(part.numbers) or part.share > data.refuse_above:
            reasons = "; ".join(f"{of.count} {reason} ({of.examples[0]})" for reason, of in sorted(part.refused.items())) or "it is empty"
            raise UserError(
                f"{part.source}: {len(part.numbers)} of {part.records} records cannot be trained on, more than data.refuse_above allows "
                f"({data.refuse_above:g}): {reasons}; mend or remove them, or raise data.refuse_above to leave them out"
                if part.records > len(part.numbers)
                else f"{part.source}: none of {part.records} records can be trained on: {reasons}; mend them"
            )


def _key(source: Source, data: Dialogues, pixels: bool) -> str:
    """What decides the result beside the files."""
    columns = sorted(source.part.columns.items())
    facts = [source.encoding.sha256(), source.part.split, source.part.subset, source.part.images, columns, pixels]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _is_mended(source: Source, found: Checked, pixels: bool) -> bool:
    """Whether a record that was refused can be trained on by now: its image is not among the files whose hash decides."""
    return tallies.still_refused(source, pixels, found.numbers) < len(found.numbers)


def _checked(source: Source, key: tuple[str, str, str], pixels: bool, bars: bool) -> Checked:
    with progress.bar(f"checking {Path(source.part.source).name}", len(source.records), bars) as advance:
        found = tallies.count(source, pixels, advance)
    return Checked(
        source=key[0],
        sha256=key[1],
        encoding=key[2],
        revision=source.revision,
        records=len(source.records),
        tokens=found.tokens,
        labelled=found.labelled,
        images=found.images,
        refused=found.refused,
        numbers=found.numbers,
    )


def _read(cache: Path | None, begun: bool) -> dict[tuple[str, str, str], Checked]:
    """Earlier results by source, files and what else decides; none where the file is missing, or not whole before a training has begun.

    Raises:
        UserError: a training has begun with it, and it is not whole.
    """
    if cache is None or not cache.is_file():
        return {}
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        if not is_whole(content):
            raise ValueError("its seal differs")
        listed = content if isinstance(content, list) else content["parts"]  # before seals it was the list
        parts = [Checked(**{**one, "refused": {reason: Refused(**of) for reason, of in one["refused"].items()}}) for one in listed]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if begun:
            raise UserError(f"{cache}: is damaged ({described(error)}); put it back, or train into another --out") from error
        return {}
    return {(without_root(part.source), part.sha256, part.encoding): part for part in parts}

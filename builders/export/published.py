"""A benchmark as a folder to publish: its tables and manifest as they are, a card, croissant.json, and for the Hub the licences.

The folder is still a benchmark folder: `iit-bench eval --bench` reads it, and `datasets.load_dataset` does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from builders.card import card
from builders.export.croissant import croissant
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.storage.atomic import Content
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.format import BENCHMARK_FORMAT
from iit_bench.storage.whole_folders import reserved, save_folder

LICENCES = "LICENSES.md"


def publish(bench: Path, out: Path, *, hub: bool, dataset: str | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Write the folder, whole or not at all, and return what `summary` prints.

    Args:
        hub: with the licences of the sources, which the card links to.
        dataset: the repository on the Hub, OWNER/NAME.

    Raises:
        UserError: not a benchmark, `dataset` is no name of a repository, or `out` holds something else.
    """
    if dataset is not None and (dataset.count("/") != 1 or not all(part.strip() for part in dataset.split("/"))):
        raise UserError(f"--dataset {dataset!r} is no name on the Hub; give OWNER/NAME")
    if out.resolve() == bench.resolve():
        raise UserError(f"--out {str(out)!r} is the benchmark itself; choose another folder")
    with reserved(out, BENCHMARK_FORMAT, overwrite):
        benchmark = load_benchmark(bench)
        save_folder(out, _files(benchmark, hub, dataset), BENCHMARK_FORMAT, overwrite)
    sources = benchmark.manifest["sources"]
    unknown = [name for name, source in sources.items() if not source["licence"] or source["licence"] == "unknown"]
    return {"to": "hub" if hub else "croissant", "dialogues": len(benchmark.dialogues), "unknown_licences": unknown}


def _files(benchmark: Benchmark, hub: bool, dataset: str | None) -> Iterator[tuple[str, Content]]:
    manifest = benchmark.manifest
    for name in manifest["files"]:
        yield name, partial(_copy, benchmark.path / name)
    questions = list(benchmark.questions.values())
    yield "README.md", card(manifest, questions, benchmark.dialogues, place=dataset or "DIR", licences=LICENCES if hub else "")
    yield "croissant.json", croissant(manifest, dataset)
    if hub:
        yield LICENCES, licences(benchmark)
    yield "manifest.json", (benchmark.path / "manifest.json").read_bytes()


def _copy(source: Path, file: BinaryIO) -> None:
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, file)


def licences(benchmark: Benchmark) -> str:
    """LICENSES.md: a section per source; what is not known is said."""
    from builders.card import escaped

    parts = ["# Licences of the sources\n", "The benchmark holds questions and images of these data sets, each under its own licence.\n"]
    for name, source in benchmark.manifest["sources"].items():
        licence = source["licence"] if source["licence"] and source["licence"] != "unknown" else ""
        told = escaped(licence) if licence else "**not known**: find out whether it may be published before you publish this folder"
        origin = " ".join(filter(None, (source["origin"], source["revision"])))
        facts = [f"licence: {told}", f"origin: {escaped(origin)}, split {escaped(str(source['split']))}"]
        facts += [f"questions here: {source['in_benchmark']}, of which targets: {source['targets']}", f"sha256: {source['sha256']}"]
        parts.append(f"## {escaped(name)}\n\n" + "".join(f"- {fact}\n" for fact in facts))
    return "\n".join(parts)


def summary(out: Path, written: dict[str, Any]) -> str:
    """A few lines about what was written, for the end of an export."""
    what = "for a data set repository on the Hub" if written["to"] == "hub" else "described in Croissant"
    lines = [f"{out}: {counted(written['dialogues'], 'dialogue')} {what}; it is a benchmark folder, too"]
    lines += [f"  licence not known: source {name}; find out before you publish" for name in written["unknown_licences"]]
    return "\n".join(lines)

"""`iit-bench export`: writes a benchmark folder in one tool's format, as a new folder with a README on how to run it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builders.export import lm_eval, published, readme, vlmeval
from builders.export.base import Advance, Plan
from iit_bench.asking import check_letters
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.progress import bar
from iit_bench.storage.atomic import Content
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.storage.format import EXPORT_FORMAT, hashed, sealed_json
from iit_bench.storage.whole_folders import reserved, save_folder
from iit_bench.types import Style
from iit_bench.version import __version__

Tool = Literal["lm-eval", "vlmeval"]  # that runs the dialogues
Description = Literal["croissant", "hub"]  # in which the whole benchmark is published


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `iit-bench export`; each field is an option of the same name."""

    bench: Path
    out: Path
    to: Tool | Description
    tiers: tuple[str, ...] | None = None  # None = all
    style: Style | None = None  # None = the benchmark's for lm-eval; vlmeval always has letters
    dataset: str | None = None  # croissant, hub: the repository on the Hub, OWNER/NAME
    overwrite: bool = False  # replace an existing export in `out`


def export(options: ExportOptions, progress: bool = True) -> dict[str, Any]:
    """Write the folder, whole or not at all, and return its manifest; of croissant and hub, what `summary` prints.

    Raises:
        UserError: not a benchmark, a tier that it lacks, a style that the tool does not support, or `out` holds something else, or
            another process is writing it.
    """
    if options.to in ("croissant", "hub"):
        if options.tiers is not None or options.style is not None:
            raise UserError(f"--to {options.to} publishes the whole benchmark in no style; leave out --tiers and --style")
        is_hub = options.to == "hub"
        return published.publish(options.bench, options.out, hub=is_hub, dataset=options.dataset, overwrite=options.overwrite)
    style = _vlmeval_style(options.style) if options.to == "vlmeval" else options.style
    with reserved(options.out, EXPORT_FORMAT, options.overwrite):
        return _export("lm-eval" if options.to == "lm-eval" else "vlmeval", options, style, progress)


def _export(tool: Tool, options: ExportOptions, style: Style | None, progress: bool) -> dict[str, Any]:
    benchmark = load_benchmark(options.bench)
    tiers = benchmark.chosen_tiers(options.tiers)
    plan = Plan(benchmark=benchmark, tiers=tiers, style=style or benchmark.manifest.get("default_style", "cloze"))
    if plan.style == "letters":
        check_letters(benchmark.questions.values())
    manifest: dict[str, Any] = {}
    total = sum(dialogue.tier in tiers for dialogue in benchmark.dialogues)
    with bar(f"exporting to {tool}", total, progress) as advance:
        save_folder(options.out, _files(tool, plan, manifest, advance), EXPORT_FORMAT, options.overwrite)
    return manifest


def _vlmeval_style(style: Style | None) -> Style:
    if style not in (None, "letters"):
        raise UserError(f"--style {style} is not possible for VLMEvalKit, which shows choices with letters; leave --style out")
    return "letters"


def _files(tool: Tool, plan: Plan, manifest: dict[str, Any], advance: Advance) -> Iterator[tuple[str, Content]]:
    """All files of the export. `manifest` is filled once the others are made."""
    hashes: dict[str, str] = {}
    yield from hashed((lm_eval if tool == "lm-eval" else vlmeval).files(plan, advance), hashes)
    manifest |= {
        "to": tool,
        "style": plan.style,
        "history": "gold",
        "benchmark": {name: plan.benchmark.manifest.get(name) for name in ("name", "seed", "rows_sha256")},
        "tiers": plan.written,
        "left_out": dict(plan.left_out),
        "iit-bench": __version__,
        "files": hashes,
    }
    yield "README.md", readme.lm_eval(plan) if tool == "lm-eval" else readme.vlmeval(plan)
    yield "manifest.json", sealed_json(EXPORT_FORMAT, manifest)


def summary(out: Path, manifest: dict[str, Any]) -> str:
    """A few lines about what was written, for the end of an export; the dialogues left out, by reason."""
    if manifest["to"] in ("croissant", "hub"):
        return published.summary(out, manifest)
    tiers = manifest["tiers"]
    lines = [
        f"{out}: {counted(sum(tiers.values()), 'dialogue')} in {counted(len(tiers), 'tier')}, style {manifest['style']}, "
        f"for {manifest['to']}; how to run them: {out / 'README.md'}"
    ]
    lines += [f"  left out: {counted(count, 'dialogue')}: {reason}" for reason, count in manifest["left_out"].items()]
    return "\n".join(lines)

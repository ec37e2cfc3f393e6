"""`iit-bench export RUN…`: runs in a format that others read, as a new folder whose README lists what the format cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from evaluators.runs.marks import UNSEALED, unsealed, unsealed_note
from iit_bench.storage.atomic import Content
from iit_bench.storage.format import EXPORT_FORMAT, hashed, sealed_json
from iit_bench.storage.runs import folder_label
from iit_bench.storage.whole_folders import reserved, save_folder
from iit_bench.version import __version__
from reports.formats import every_eval_ever, hub_results, inspect_log
from reports.formats.runs import Runs, read

RunFormat = Literal["inspect", "every-eval-ever", "hub", "csv", "latex", "markdown"]
RUN_FORMATS: tuple[RunFormat, ...] = get_args(RunFormat)
File = tuple[str, Content]  # path in the folder, content

_WHAT: dict[RunFormat, str] = {
    "inspect": "logs of inspect, one per run, for `inspect view`",
    "every-eval-ever": "records of Every Eval Ever, a summary and its samples per run",
    "hub": "`.eval_results/` of a model's repository on the Hub, a folder per model",
    "csv": "every figure of every run, one per line",
    "latex": "tables for a paper",
    "markdown": "tables for a README",
}
_NOT_SAID: dict[RunFormat, tuple[str, ...]] = {
    "inspect": inspect_log.NOT_SAID,
    "every-eval-ever": every_eval_ever.NOT_SAID,
    "hub": hub_results.NOT_SAID,
    "csv": ("replies and log-probabilities by item are left out: they are in predictions.parquet and items.parquet of each run",),
    "latex": ("acc only; other metrics, parts of tiers and tests are in the CSV file (--to csv)",),
    "markdown": ("acc only; other metrics, parts of tiers and tests are in the CSV file (--to csv)",),
}


@dataclass(frozen=True, kw_only=True)
class RunExportOptions:
    """Options of `iit-bench export` for runs; each field is an option of the same name."""

    runs: tuple[Path, ...]
    out: Path
    to: RunFormat
    bench: Path | None = None  # of the IIT runs; None = where they found it
    dataset: str | None = None  # hub, every-eval-ever: the benchmark's name on the Hub
    organization: str = ""  # every-eval-ever: who ran the evaluation
    source: str | None = None  # hub: address of the evaluation's logs
    overwrite: bool = False  # replace an existing export in `out`


def export_runs(options: RunExportOptions) -> dict[str, Any]:
    """Write the folder, whole or not at all, and return its manifest.

    Raises:
        UserError: no such runs, something that the format needs is missing, or `out` holds something else.
    """
    manifest: dict[str, Any] = {}
    with reserved(options.out, EXPORT_FORMAT, options.overwrite):
        runs = read(options.runs, options.bench)
        save_folder(options.out, _files(options, runs, manifest), EXPORT_FORMAT, options.overwrite)
    return manifest


def _files(options: RunExportOptions, runs: Runs, manifest: dict[str, Any]) -> Iterator[File]:
    """All files of the export. `manifest` is filled once the others are made."""
    hashes: dict[str, str] = {}
    left_out = list(_NOT_SAID.get(options.to, ()))
    yield from hashed(_of_format(options, runs, left_out), hashes)
    manifest |= {
        "to": options.to,
        "runs": [*(folder_label(entry.run.path) for entry in runs.entries), *(folder_label(run.path) for run in runs.models.runs)],
        "files": hashes,
        "not_said": left_out,
        UNSEALED: unsealed([*(entry.run for entry in runs.entries), *runs.models.runs]),
        "iit-bench": __version__,
    }
    yield "README.md", _readme(manifest)
    yield "manifest.json", sealed_json(EXPORT_FORMAT, manifest)


def _of_format(options: RunExportOptions, runs: Runs, left_out: list[str]) -> Iterator[File]:
    if options.to == "hub":
        yield from hub_results.hub_files(runs, hub_results.HubOptions(dataset=options.dataset, source=options.source))
    elif options.to == "inspect":
        yield from inspect_log.log_files(runs)
    elif options.to == "every-eval-ever":
        publisher = every_eval_ever.Publisher(organization=options.organization, dataset=options.dataset)
        yield from every_eval_ever.record_files(runs, publisher)
    elif options.to == "csv":
        from reports.formats.csv_file import csv_text
        from reports.formats.figures import rows_of

        yield "figures.csv", csv_text(rows_of(runs.entries, runs.models))
    else:
        yield from _tables(options.to, runs)


def _tables(to: RunFormat, runs: Runs) -> Iterator[File]:
    from reports.formats import latex, markdown
    from reports.formats.boards import boards

    tables = boards(runs.groups, runs.models)
    if to == "latex":
        yield from ((f"{table.key}.tex", latex.HEAD + latex.latex(table)) for table in tables)
    else:
        yield "leaderboard.md", "\n".join(markdown.markdown(table) for table in tables)


def _readme(manifest: Mapping[str, Any]) -> str:
    lines = [f"# {_WHAT[manifest['to']].capitalize()}", "", f"Written by iit-bench {manifest['iit-bench']}.", ""]
    lines += ["What this format cannot say:", "", *(f"- {sentence}" for sentence in manifest["not_said"]), ""]
    lines += [note, ""] if (note := unsealed_note(manifest[UNSEALED])) else []
    return "\n".join(lines)


def summary(out: Path, manifest: Mapping[str, Any]) -> str:
    """A few lines about what was written, for the end of an export, and what the format cannot say."""
    n_runs, n_files = len(manifest["runs"]), len(manifest["files"])
    counted = f"{n_runs} {'run' if n_runs == 1 else 'runs'}, {n_files} {'file' if n_files == 1 else 'files'}"
    lines = [f"{out}: {_WHAT[manifest['to']]}; {counted}"]
    lines += [f"  not in it: {sentence}" for sentence in manifest["not_said"]]
    return "\n".join([*lines, *filter(None, [unsealed_note(manifest[UNSEALED])])])

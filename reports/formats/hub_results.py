"""`.eval_results/NAME.yaml`, which a model's repository on the Hub shows: an entry per score and tier.

The Hub's entry has a value and a note; interval, n and how it was asked are words in the note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iit_bench.errors import UserError
from iit_bench.types import Figure
from reports.cells import interval
from reports.entries import Entry
from reports.formats.figures import SCORES
from reports.formats.runs import Runs
from reports.page import visible

NOT_SAID = (
    "interval, n and clusters are words in each entry's `notes`; standard errors, outcomes, tests and replies are left out",
    "runs of the suites text and vqa are left out: their data sets have entries of their own on the Hub, which their tools write",
    "figures without a value are left out",
)


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """What the Hub asks of an entry beyond the figure."""

    dataset: str | None = None  # the benchmark's repository on the Hub, OWNER/NAME
    source: str | None = None  # address of the evaluation's logs


def hub_files(runs: Runs, options: HubOptions) -> Iterator[tuple[str, str]]:
    """A folder per model: its `.eval_results/NAME.yaml` goes into the model's repository as it is.

    Raises:
        UserError: no run of suite iit, or no name of the benchmark on the Hub.
    """
    import yaml

    if not runs.entries:
        raise UserError("--to hub writes scores of suite iit, and there is no run of it; name one")
    dataset = options.dataset or ""
    if dataset.count("/") != 1 or not all(part.strip() for part in dataset.split("/")):
        raise UserError("--to hub needs the benchmark's name on the Hub; add --dataset OWNER/NAME")
    for entry in runs.entries:
        entries = _entries(entry, dataset, options.source)
        name = dataset.partition("/")[2]
        yield f"{entry.slug}/.eval_results/{name}.yaml", yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120)


def _entries(entry: Entry, dataset: str, source: str | None) -> list[dict[str, Any]]:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    header, results = entry.header, entry.run.results
    asked = f"{header['scoring']}, style {header['style']}, {header['history']} history"
    asked += "" if header["limit"] is None else f", limited to {header['limit']} groups"
    asked += "".join(f", {badge}" for badge in entry.badges)
    asked += f"; rows_sha256 {str(header['benchmark']['rows_sha256'])[:12]}; iit-bench {header.get('versions', {}).get('iit-bench', '')}"
    figures = {name: figure for name in SCORES if (figure := getattr(results, name).get("acc"))}
    figures |= {tier.tier: tier.acc for tier in results.tiers}
    made = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=task,
            value=round(100 * figure.value, 4),
            date=str(header.get("ended") or "") or None,
            source_url=source,
            notes=visible(f"{_sure(figure)}; {asked}"),
        )
        for task, figure in figures.items()
        if figure.value is not None
    ]
    return eval_result_entries_to_yaml(made)


def _sure(figure: Figure) -> str:
    bounds = interval(figure)
    return f"accuracy in %, {f'95% interval {bounds}' if bounds else 'no interval'}, n {figure.n}, {figure.clusters} clusters"

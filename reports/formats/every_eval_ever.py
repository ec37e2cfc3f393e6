"""Records of Every Eval Ever (schema 0.3.0): per run of suite iit a summary and, beside it, its samples; of other suites a summary.

    data/BENCHMARK/DEVELOPER/MODEL/UUID.json
    data/BENCHMARK/DEVELOPER/MODEL/UUID_samples.jsonl

Names and times come from the run, so the same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from iit_bench.storage.runs import AnyRun, TaskRun
from iit_bench.types import Figure
from iit_bench.version import __version__
from reports import links
from reports.entries import Entry
from reports.formats.dialogues import turns
from reports.formats.eee_samples import SCHEMA, json_line, sample
from reports.formats.figures import SCORES
from reports.formats.inspect_parts import scored_metrics
from reports.formats.runs import Runs
from reports.page import visible

NOT_SAID = (
    "pictures are left out: the schema has texts only; each sample names theirs by sha256, and where they are by a mark in the text",
    "a sample has one score, `acc`; acc_norm and acc_bytes of each sample are words in its metadata",
    "unparsed, truncated and failed are the same wrong answer to the schema; each sample's outcome is in its metadata",
    "paired figures, forgetting and breakdowns are left out; clusters, interval and method of a figure are extra keys of its uncertainty",
    "runs of the suites text and vqa have no samples: their prompts are in their tools' own files",
    "figures without a value are left out",
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Who publishes the records."""

    organization: str = ""  # that ran the evaluation; "" = not said
    dataset: str | None = None  # the benchmark's repository on the Hub


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a run's files are, and the names that join them."""

    folder: str
    name: str  # a version-4 UUID, made of the run
    evaluation: str  # evaluation_id
    model: str  # model_info.id

    @property
    def summary(self) -> str:
        return f"{self.folder}/{self.name}.json"

    @property
    def samples(self) -> str:
        return f"{self.folder}/{self.name}_samples.jsonl"


def record_files(runs: Runs, publisher: Publisher) -> Iterator[tuple[str, str]]:
    """The records of all runs.

    Raises:
        UserError: the benchmark of an IIT run is not at hand.
    """
    for entry in runs.entries:
        yield from _of_entry(entry, runs, publisher)
    for run in runs.models.runs:
        place = _place(run, run.results.suite, publisher)
        yield place.summary, _json(_head(run, place, publisher) | {"evaluation_results": list(_of_tasks(run))})


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# ---------------------------------------------------------------- suite iit


def _of_entry(entry: Entry, runs: Runs, publisher: Publisher) -> Iterator[tuple[str, str]]:
    run, header, benchmark = entry.run, entry.header, runs.benchmark(entry)
    place = _place(run, str(header["benchmark"]["name"]), publisher)
    lines = [json_line(sample(turn, place.evaluation, place.model)) for turn in turns(run, benchmark)]
    text = "".join(lines)
    detailed = {
        "format": "jsonl",
        "file_path": place.samples,
        "hash_algorithm": "sha256",
        "checksum": hashlib.sha256(text.encode()).hexdigest(),
        "total_rows": len(lines),
    }
    results = list(_figures_of(entry, publisher))
    yield place.summary, _json(_head(run, place, publisher) | {"evaluation_results": results, "detailed_evaluation_results": detailed})
    yield place.samples, text


def _figures_of(entry: Entry, publisher: Publisher) -> Iterator[dict[str, Any]]:
    header, results = entry.header, entry.run.results
    name = str(header["benchmark"]["name"])
    known = {"rows_sha256": str(header["benchmark"]["rows_sha256"])}
    dataset: dict[str, Any] = {"dataset_name": f"IIT {name}", "source_type": "other", "additional_details": known}
    if publisher.dataset:
        dataset |= {"source_type": "hf_dataset", "hf_repo": publisher.dataset, "hf_split": "test"}
    asked = {key: str(header[key]) for key in ("scoring", "style", "history") if key in header}
    for metric in scored_metrics(header["scoring"]):
        figures = {field: figure for field in SCORES if (figure := getattr(results, field).get(metric))}
        figures |= {tier.tier: getattr(tier, metric) for tier in results.tiers}
        for over, figure in figures.items():
            if figure.value is not None:
                yield _result(over, metric, figure, dataset, asked) | {"generation_config": _generation(header, asked)}


def _generation(header: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"temperature": 0, "execution_command": visible(str(header.get("command") or ""))}
    if isinstance(header.get("max_new_tokens"), int):
        arguments["max_tokens"] = header["max_new_tokens"]
    return {"generation_args": arguments, "additional_details": dict(asked)}


# ---------------------------------------------------------------- suites text and vqa


def _of_tasks(run: TaskRun) -> Iterator[dict[str, Any]]:
    for result in run.results.tasks:
        dataset = {"dataset_name": visible(result.task), "source_type": "other"}
        for metric, figure in result.scores.items():
            if figure.value is not None:
                details = {"version": result.version, "state": result.state} | (
                    {} if result.n_shot is None else {"shots": str(result.n_shot)}
                )
                yield _result(result.task, metric, figure, dataset, details, best=result.best if metric == result.metric else None)


# ---------------------------------------------------------------- parts of a record


def _result(
    over: str, metric: str, figure: Figure, dataset: Mapping[str, Any], details: Mapping[str, str], best: float | None = 1.0
) -> dict[str, Any]:
    """A figure that exists, with its interval, standard error, n and clusters."""
    value = figure.value
    assert value is not None
    bounded = best == 1 and 0 <= value <= 1
    config: dict[str, Any] = {
        "metric_id": metric,
        "metric_name": visible(metric),
        "metric_kind": "accuracy" if bounded else "other",
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": 0.0 if bounded else "-Infinity",
        "max_score": 1.0 if bounded else "Infinity" if best is None else max(best, value),
    }
    if bounded:
        config["metric_unit"] = "proportion"
    return {
        "evaluation_result_id": f"{over}/{metric}",
        "evaluation_name": visible(over),
        "source_data": dict(dataset),
        "metric_config": config,
        "score_details": {"score": value, "details": dict(details), "uncertainty": _uncertainty(figure)},
    }


def _uncertainty(figure: Figure) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": figure.n, "num_clusters": figure.clusters} if figure.n else {}
    if figure.se is not None:
        found["standard_error"] = {"value": figure.se, "method": figure.method or "analytic"}
    if figure.low is not None and figure.high is not None:
        bounds = {"lower": figure.low, "upper": figure.high, "confidence_level": 0.95}
        found["confidence_interval"] = bounds | {"method": figure.method or "analytic"}
    return found


def _head(run: AnyRun, place: _Place, publisher: Publisher) -> dict[str, Any]:
    header, model = run.run, run.run["model"]
    tool = str(header.get("tool") or "")
    name, _, version = tool.partition(" ") if tool else ("iit-bench", "", str(header.get("versions", {}).get("iit-bench") or __version__))
    served = model.get("device") == "server" or model.get("base_url")
    known = {
        key: str(model[key]) for key in ("checkpoint", "checkpoint_sha256", "dtype", "device", "blind", "parameters") if model.get(key)
    }
    deployed = {"deployment_type": "unknown" if served or tool else "self_deployed", "model_availability": "unknown"}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": place.evaluation,
        "evaluation_timestamp": str(header.get("ended") or header.get("started") or ""),
        "retrieved_timestamp": _epoch(header),
        "source_metadata": {
            "source_name": "iit-bench",
            "source_type": "evaluation_run",
            "source_organization_name": publisher.organization or "not recorded",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": name, "version": version or "unknown", "additional_details": {"exported_by": f"iit-bench {__version__}"}},
        "model_info": {
            "name": visible(str(model["name"])),
            "id": place.model,
            "developer": place.model.partition("/")[0],
            "additional_details": {key: visible(value) for key, value in (known | deployed).items()},
        },
    }


def _place(run: AnyRun, benchmark: str, publisher: Publisher) -> _Place:
    header, model = run.run, str(run.run["model"]["name"])
    plain = model.removeprefix("hf:")
    collection, developer, name = links.slugs([benchmark]) + links.slugs([publisher.organization or "local"]) + links.slugs([plain])
    named = plain if _HUB_ID.fullmatch(plain) and not plain.startswith(".") else f"{developer}/{name}"
    folder = f"data/iit-{collection}/{named.partition('/')[0]}/{named.partition('/')[2]}"
    evaluation = f"iit-{collection}/{named}/{_epoch(header)}"
    identity = hashlib.sha256(f"{evaluation}\n{header.get('command')}\n{run.path.name}".encode()).digest()
    return _Place(folder=folder, name=str(uuid.UUID(bytes=identity[:16], version=4)), evaluation=evaluation, model=named)


def _epoch(header: Mapping[str, Any]) -> str:
    """When the run ended, in seconds of Unix time; "0" where it is not recorded."""
    try:
        return str(int(datetime.fromisoformat(str(header.get("ended") or header.get("started"))).timestamp()))
    except ValueError:
        return "0"

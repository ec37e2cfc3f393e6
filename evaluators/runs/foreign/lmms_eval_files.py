"""lmms-eval's result files (`--output_path DIR --log_samples`): `DATE_results.json`, and `DATE_samples_TASK.jsonl` beside it.

A sample has its metrics by name beside other fields; documents and pictures are not in the file. With its samples a task has the interval
of its items, without them that of lmms-eval's standard error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluators.runs.foreign.own_figures import documents, number, outcome, task_result
from evaluators.runs.foreign.run import DAMAGED, foreign_header, foreign_run
from evaluators.runs.outcomes import count_outcomes
from iit_bench.errors import UserError, described, one_line
from iit_bench.storage.inside import file_beside
from iit_bench.storage.runs import TaskRun
from iit_bench.types import SuiteResults, TaskItem, TaskResult

TOOL = "lmms-eval"
_RESULTS = "_results.json"
_NOTES = (
    "lmms-eval's files do not name the pictures: each question counts as independent, which makes the interval too narrow",
    "lmms-eval's files do not tell unparsed replies from wrong ones",
)


def is_results(content: Any) -> bool:
    """Whether a JSON value is what lmms-eval writes into `DATE_results.json`."""
    return isinstance(content, dict) and isinstance(content.get("results"), dict) and "lmms_eval_version" in content


def result_files(folder: Path) -> list[Path]:
    """Files in a folder and below that are named like lmms-eval's results."""
    return sorted(path for path in folder.rglob(f"*{_RESULTS}") if path.is_file())


def read_results(path: Path, content: Mapping[str, Any]) -> TaskRun:
    """One results file, whose content is `content`, with its samples.

    Raises:
        UserError: it is damaged, or a file of samples is.
    """
    try:
        sizes = content.get("n-samples") or content["results"]  # without sizes a group, which has none, is not told from a task
        tasks = [task for task in content["results"] if task in sizes]
        results, items = [], []
        for task in tasks:
            result, rows = _task(path, task, content)
            results.append(result)
            items += rows
        found = SuiteResults(suite="vqa", complete=True, outcomes=count_outcomes(items), tasks=tuple(results))
        return foreign_run(path, _header(path, content, tasks), found, items)
    except DAMAGED as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); run lmms-eval again") from error


def _task(path: Path, task: str, content: Mapping[str, Any]) -> tuple[TaskResult, list[TaskItem]]:
    values = dict(_values(content["results"][task]))
    lines = list(_lines(path, task))
    items = [item for number_, line in enumerate(lines) for item in _items(task, number_, line, values)]
    sizes = (content.get("n-samples") or {}).get(task)
    higher, shots = (content.get("higher_is_better") or {}).get(task), content.get("n-shot") or {}
    result = task_result(
        task,
        values,
        items,
        tool=TOOL,
        count=documents(sizes["effective"]) if sizes else len(lines),
        higher=higher,
        version=str((content.get("versions") or {}).get(task, "")),
        n_shot=int(shots[task] or 0) if task in shots else None,
        n_documents=documents(sizes["original"]) if sizes else None,
        documents_sha256=_documents(lines) if lines else "",
        output_type=str((content.get("configs") or {}).get(task, {}).get("output_type") or ""),
        notes=_NOTES if items else (f"no samples beside {path.name}: run lmms-eval with --log_samples for intervals from the items",),
    )
    return result, items


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """(metric, (value, standard error)) of "acc,none" and "acc_stderr,none"; another filter's name stays in the metric's."""
    for name, value in row.items():
        metric, comma, filter_name = name.partition(",")
        if not comma or "_stderr" in metric or number(value) is None:
            continue
        known = (number(row.get(f"{metric}{suffix},{filter_name}")) for suffix in ("_stderr_clustered", "_stderr_clt", "_stderr"))
        yield metric if filter_name == "none" else name, (float(value), next((one for one in known if one is not None), None))


# ---------------------------------------------------------------- samples


def _lines(path: Path, task: str) -> Iterator[dict[str, Any]]:
    file = file_beside(path, f"{path.name.removesuffix(_RESULTS)}_samples_{task}.jsonl")
    if file is None:
        return
    with file.open(encoding="utf-8") as lines:
        for place, line in enumerate(lines, 1):
            try:
                sample = json.loads(line)
                if not isinstance(sample, dict) or "doc_id" not in sample:
                    raise ValueError("it has no doc_id")
            except (ValueError, RecursionError) as error:
                raise UserError(f"line {place} of {str(file)!r} is no sample of lmms-eval ({one_line(error)}); run it again") from error
            yield sample


def _items(task: str, place: int, line: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[TaskItem]:
    """A row per metric whose value is a number, or holds one as its "score"."""
    item = str(line.get("doc_id", place))
    for metric in metrics:
        value = line.get(metric.partition(",")[0])
        score = number(value.get("score")) if isinstance(value, Mapping) else number(value)
        if score is not None:
            yield TaskItem(task=task, item=item, cluster=item, metric=metric, score=score, outcome=outcome(score), reply=_reply(line))


def _reply(line: Mapping[str, Any]) -> str:
    """The first text of the replies as they were generated; of scored choices nothing."""
    value = line.get("resps", line.get("filtered_resps"))
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _documents(lines: list[dict[str, Any]]) -> str:
    """Hash of documents and gold answers, by lmms-eval's own hash of each."""
    texts = sorted({f"{line['doc_id']} {line.get('doc_hash')} {line.get('target')}\n" for line in lines})
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def _header(path: Path, content: Mapping[str, Any], tasks: list[str]) -> dict[str, Any]:
    config = content.get("config") or {}
    given = config.get("gen_kwargs") or {}
    return foreign_header(
        f"{TOOL} {content['lmms_eval_version']}".strip(),
        "vqa",
        str(content.get("model_name") or config.get("model") or path.parent.name),
        path,
        model_info={"chat_template_sha256": str(content.get("chat_template_sha") or ""), "device": str(config.get("device") or "")},
        tasks=tasks,
        limit=config.get("limit"),
        judge="",
        system_prompt=str(content.get("system_instruction") or ""),
        gen_kwargs=given if isinstance(given, str) else ",".join(f"{name}={value}" for name, value in given.items()),
        seconds=float(content["total_evaluation_time_seconds"]) if content.get("total_evaluation_time_seconds") else None,
        versions={"lmms-eval": content["lmms_eval_version"]},
    )

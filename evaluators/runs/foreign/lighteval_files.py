"""lighteval's result files: `results/MODEL/results_DATE.json`, and `details/MODEL/DATE/details_TASK_DATE.parquet` (`--save-details`).

The details have per document the question (`doc`), its scores (`metric`) and the answer (`model_response`). A task's name ends with the
number of examples: "arc:easy|0".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.runs.foreign.own_figures import Values, documents, number, outcome, task_result
from evaluators.runs.foreign.run import DAMAGED, foreign_header, foreign_run
from evaluators.runs.outcomes import count_outcomes
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import TaskRun
from iit_bench.types import SuiteResults, TaskItem, TaskResult

TOOL = "lighteval"
_MEANS = ("all", ":_average|")  # of tasks, not tasks
_NO_DETAILS = "no details beside the results: run lighteval with --save-details for intervals from the items"
_UNTOLD = "lighteval's files do not tell unparsed replies from wrong ones, nor which questions share a passage or picture"

Details = list[dict[str, Any]]


def is_results(content: Any) -> bool:
    """Whether a JSON value is what lighteval writes into `results_DATE.json`."""
    return isinstance(content, dict) and isinstance(content.get("results"), dict) and "config_general" in content


def read_results(path: Path, content: Mapping[str, Any]) -> TaskRun:
    """One results file, whose content is `content`, with its details.

    Raises:
        UserError: it is damaged, or a table of details is.
    """
    try:
        tasks = [task for task in content["results"] if task != _MEANS[0] and _MEANS[1] not in task]
        results, items = [], []
        for task in tasks:
            result, rows = _task(path, task, content)
            results.append(result)
            items += rows
        found = SuiteResults(suite="text", complete=True, outcomes=count_outcomes(items), tasks=tuple(results))
        return foreign_run(path, _header(path, content, tasks), found, items)
    except DAMAGED as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); run lighteval again") from error


def _task(path: Path, task: str, content: Mapping[str, Any]) -> tuple[TaskResult, list[TaskItem]]:
    config = (content.get("config_tasks") or {}).get(task) or {}
    details = _details(path, task)
    values = dict(_values(content["results"][task]))
    items = [item for place, one in enumerate(details) for item in _items(task, place, one, values)]
    shots = task.rpartition("|")[2]
    sizes = {name: _documents_told(config.get(name)) for name in ("effective_num_docs", "original_num_docs")}
    result = task_result(
        task,
        values,
        items,
        tool=TOOL,
        count=len(details) or sizes["effective_num_docs"] or 0,
        version=str((content.get("versions") or {}).get(task, config.get("version", ""))),
        n_shot=int(shots) if shots.isdecimal() else None,
        n_documents=sizes["original_num_docs"],
        documents_sha256=_documents(details) if details else "",
        output_type="multiple_choice" if details and all(map(_scored, details)) else "",
        chance=_chance(details, values),
        notes=(_UNTOLD,) if items else (_NO_DETAILS,),
    )
    return result, items


def _documents_told(value: Any) -> int | None:
    """A count of documents; None where lighteval does not tell, which it writes as -1."""
    return None if value is None or value == -1 else documents(value)


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float | None]]]:
    for name, value in row.items():
        if not name.endswith("_stderr") and number(value) is not None:
            yield name, (float(value), number(row.get(f"{name}_stderr")))


def recorded(path: Path, task: str) -> dict[str, dict[str, Any]]:
    """Item -> what its details say of how it was asked.

    Keys: `prompt` (the text that the model was given; "" where it is no text), `limit` (of the reply, in tokens) and `stops`. Whether a
    prompt was cut is not among them: the field `truncated_tokens_count` of a generated reply is characters minus tokens, so it is rarely 0.
    """
    config = json.loads(path.read_text(encoding="utf-8"))["config_general"].get("model_config") or {}
    own = (config.get("generation_parameters") or {}).get("max_new_tokens")
    found = {}
    for place, one in enumerate(_details(path, task)):
        doc, text = one["doc"], one["model_response"].get("input")
        limit, stops = own or doc.get("generation_size"), doc.get("stop_sequences")
        if stops is not None and not (isinstance(stops, list) and all(isinstance(stop, str) for stop in stops)):
            raise UserError(
                f"details of {task!r} beside {str(path)!r}: stop_sequences {str(stops)[:60]!r} is no list of texts; run lighteval again"
            )
        known = {"prompt": text if isinstance(text, str) else "", "limit": limit}
        found[_item_of(doc, place)] = known | {"stops": None if stops is None else tuple(stops)}
    return found


# ---------------------------------------------------------------- details


def _details(path: Path, task: str) -> Details:
    """The documents of a task; none where lighteval was not told to save them."""
    date = path.stem.removeprefix("results_")
    name = f"details_{task}_{date}.parquet"
    for folder in path.absolute().parents[:6]:
        found = sorted(file for file in (folder / "details").rglob(f"{date}/*.parquet") if file.name == name)
        if found:
            return _read(found[0])
    return []


def _read(file: Path) -> Details:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: Details = pq.read_table(file, columns=["doc", "metric", "model_response"]).to_pylist()
        return rows
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(f"{str(file)!r} is no table of lighteval's details ({described(error)}); run lighteval again") from error


def _items(task: str, place: int, detail: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[TaskItem]:
    item = _item_of(detail["doc"], place)
    for metric in metrics:
        score = number((detail["metric"] or {}).get(metric))
        if score is not None:
            yield TaskItem(task=task, item=item, cluster=item, metric=metric, score=score, outcome=outcome(score), reply=_reply(detail))


def _item_of(doc: Mapping[str, Any], place: int) -> str:
    return str(doc.get("id") or place)


def _scored(detail: Mapping[str, Any]) -> bool:
    """Whether the choices of a document were scored, and no reply generated."""
    given, choices = detail["model_response"].get("logprobs") or [], detail["doc"].get("choices") or []
    return len(given) == len(choices) > 1


def _reply(detail: Mapping[str, Any]) -> str:
    """The generated text, or the choice that is the most likely."""
    response = detail["model_response"]
    if _scored(detail):
        best = max(range(len(response["logprobs"])), key=lambda i: response["logprobs"][i])
        return str(detail["doc"]["choices"][best]).strip()
    texts = response.get("text") or []
    return str(texts[0]) if texts else ""


def _chance(details: Sequence[Mapping[str, Any]], values: Values) -> dict[str, float]:
    """Mean of right choices / choices, where choices were scored."""
    if not details or not all(map(_scored, details)):
        return {}
    levels = [len(_gold(one)) / len(one["doc"]["choices"]) for one in details]
    return dict.fromkeys((metric for metric in values if metric.startswith("acc")), sum(levels) / len(levels))


def _gold(detail: Mapping[str, Any]) -> list[int]:
    gold = detail["doc"].get("gold_index")
    return list(gold) if isinstance(gold, list) else [gold]


def _documents(details: Sequence[Mapping[str, Any]]) -> str:
    """Hash of questions, choices and gold answers, without examples and chat templates."""
    lines = (json.dumps([one["doc"].get("query"), one["doc"].get("choices"), _gold(one)], ensure_ascii=True) for one in details)
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _header(path: Path, content: Mapping[str, Any], tasks: list[str]) -> dict[str, Any]:
    general = content["config_general"]
    config = general.get("model_config") or {}
    given = config.get("generation_parameters") or {}
    set_ = {name: value for name, value in given.items() if value is not None} if isinstance(given, Mapping) else {}
    limit = set_.pop("max_new_tokens", None)
    seconds = number(general.get("total_evaluation_time_secondes"))
    return foreign_header(
        TOOL,
        "text",
        str(general.get("model_name") or config.get("model_name") or path.parent.name),
        path,
        model_info={"dtype": str(config.get("dtype") or "").removeprefix("torch.")},
        tasks=tasks,
        limit=general.get("max_samples"),
        max_new_tokens=limit,
        apply_chat_template=bool(config.get("use_chat_template")),
        system_prompt=str(config.get("system_prompt") or ""),
        gen_kwargs=",".join(f"{name}={value}" for name, value in sorted(set_.items()) if isinstance(value, (int, float, str))),
        seconds=seconds,
        versions={"lighteval": str(general.get("lighteval_sha") or "")},
    )

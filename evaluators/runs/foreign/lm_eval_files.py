"""lm-eval's result files (`lm_eval --output_path DIR --log_samples`): `results_DATE.json`, and `samples_TASK_DATE.jsonl` beside it.

With its samples a task gets the interval that our own runs get, from its items; without them, the one that lm-eval's standard error gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluators.runs.foreign.own_figures import documents
from evaluators.runs.foreign.run import DAMAGED, foreign_header, foreign_run
from evaluators.text.results import Circumstances, items_of, suite_results
from iit_bench.errors import UserError, described, one_line
from iit_bench.storage.inside import file_beside
from iit_bench.storage.runs import TaskRun

TOOL = "lm-eval"
_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.-]+)\.json$")
_NEEDED = ("results", "configs", "versions", "n-shot", "n-samples")  # what lm-eval has written since 0.4.3
_KEPT = ("doc_id", "doc", "target", "doc_hash", "target_hash", "filter", "metrics", "filtered_resps", "resps", "arguments")


def is_results(content: Any) -> bool:
    """Whether a JSON value is what lm-eval writes into `results_DATE.json`."""
    return isinstance(content, dict) and isinstance(content.get("results"), dict) and "configs" in content and "versions" in content


def result_files(folder: Path) -> list[Path]:
    """lm-eval's result files in a folder and below."""
    return sorted(path for path in folder.rglob("*.json") if _DATE.search(path.name))


def read_results(path: Path) -> TaskRun:
    """One results file with its samples.

    Raises:
        UserError: not such a file, or one that is damaged or of a version that does not record how many documents were asked.
    """
    whole = evaluated_in(path)
    try:
        tasks = [task for task in whole["results"] if task in whole["n-samples"]]
        whole["samples"] = {task: lines for task in tasks if (lines := samples_of(path, task))}
        items = items_of(whole, ())
        results = suite_results(whole, items, Circumstances())
        return foreign_run(path, _header(whole, tasks, path), results, items)
    except DAMAGED as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); run lm-eval again") from error


def evaluated_in(path: Path) -> dict[str, Any]:
    """What lm-eval's `simple_evaluate` had returned, from its results file, without the samples.

    Raises:
        UserError: as `read_results`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON ({one_line(error)}); give the results_*.json that lm-eval wrote") from error
    if not is_results(content):
        raise UserError(f"{str(path)!r} is not a results file of lm-eval; give the results_*.json of `lm_eval --output_path DIR`")
    if missing := [name for name in _NEEDED if not isinstance(content.get(name), dict)]:
        raise UserError(f"{str(path)!r} lacks {', '.join(missing)}; run it again with lm-eval 0.4.3 or newer")
    try:
        for task in content["results"]:
            if sizes := content["n-samples"].get(task):
                sizes |= {name: documents(sizes[name]) for name in ("effective", "original")}
    except DAMAGED as error:
        raise UserError(f"{str(path)!r} is damaged ({described(error)}); run lm-eval again") from error
    return content | {"samples": {}, "group_subtasks": content.get("group_subtasks", {}), "groups": content.get("groups", {})}


def _header(content: Mapping[str, Any], tasks: list[str], path: Path) -> dict[str, Any]:
    config = content.get("config") or {}
    model = str(content.get("model_name") or config.get("model") or path.parent.name)
    info = {"dtype": str(config.get("model_dtype") or "").removeprefix("torch."), "parameters": config.get("model_num_parameters")}
    info |= {"chat_template_sha256": str(content.get("chat_template_sha") or ""), "device": str(config.get("device") or "")}
    settings = config.get("gen_kwargs") or {}
    return foreign_header(
        f"{TOOL} {content.get('lm_eval_version') or ''}".strip(),
        "text",
        model,
        path,
        model_info=info,
        tasks=tasks,
        limit=config.get("limit"),
        apply_chat_template=bool(content.get("chat_template")),
        fewshot_as_multiturn=bool(content.get("fewshot_as_multiturn")),
        **({"fewshot_seed": config["fewshot_seed"]} if "fewshot_seed" in config else {}),
        system_prompt=str(content.get("system_instruction") or ""),
        gen_kwargs=settings if isinstance(settings, str) else ",".join(f"{name}={value}" for name, value in settings.items()),
        seconds=float(content["total_evaluation_time_seconds"]) if content.get("total_evaluation_time_seconds") else None,
        versions={"lm-eval": content.get("lm_eval_version"), "transformers": content.get("transformers_version")},
    )


# ---------------------------------------------------------------- samples


def samples_file(path: Path, task: str) -> Path | None:
    """The samples file of a task beside the results at `path`; None where it was not written."""
    date = _DATE.search(path.name)
    return file_beside(path, f"samples_{task}_{date.group(1)}.jsonl") if date else None


class Samples(Mapping[str, list[dict[str, Any]]]):
    """The samples of tasks, read when they are asked for, as `samples_of` reads them; those of one task are kept.

    Args:
        path: of the results file.
        tasks: those of it.
        opened: is called with each file before it is read.
    """

    def __init__(self, path: Path, tasks: Iterable[str], opened: Callable[[Path], Any]) -> None:
        self._files = {task: file for task in tasks if (file := samples_file(path, task))}
        self._opened = opened
        self._kept: tuple[str, list[dict[str, Any]]] = ("", [])

    def __getitem__(self, task: str) -> list[dict[str, Any]]:
        if self._kept[0] != task:
            self._opened(file := self._files[task])
            self._kept = (task, samples_in(file))
        return self._kept[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def samples_of(path: Path, task: str) -> list[dict[str, Any]]:
    """The lines of a task's samples file, in the form that they have inside lm-eval; empty where it was not written."""
    file = samples_file(path, task)
    return [] if file is None else samples_in(file)


def samples_in(file: Path) -> list[dict[str, Any]]:
    """The lines of a samples file, in the form that they have inside lm-eval."""
    return list(_lines(file))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                sample = json.loads(line)
                kept = {name: sample[name] for name in (*_KEPT, *sample["metrics"])}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"line {number} of {str(file)!r} is no sample of lm-eval 0.4.6 or newer ({described(error)}); without the "
                    "file, intervals come from lm-eval's standard errors"
                ) from error
            arguments = kept["arguments"].values()
            same: dict[str, str] = {}  # all choices share a context, which is long: kept once
            kept["arguments"] = [tuple(same.setdefault(str(text), str(text)) for text in one.values()) for one in arguments]
            kept["resps"] = [[_reply(one) for one in replies] for replies in kept["resps"]]
            yield kept


def _reply(value: Any) -> Any:
    """A generated text as it is; a log-likelihood, which the file has as two texts, as numbers again."""
    return (float(value[0]), *value[1:]) if isinstance(value, list) and value else value

"""Results of VLMEvalKit's data sets, and of tools whose readers keep items without prompts, as a side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.explain.rules import KIT_RULE, kit_reading
from evaluators.explain.settings import weights_of
from evaluators.explain.sides import Answer, AskedTask, Cause, Settings, Side
from evaluators.runs.foreign import inspect_logs, lighteval_files, vlmeval_files
from evaluators.runs.foreign.table_files import read_rows
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.types import TaskItem, TaskResult

KIT_LAYOUT = "VLMEvalKit's single turn"
NO_ITEMS = "its files hold no scores by item"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def task_side(run: TaskRun, metric: str | None) -> Side:
    """A run of suite vqa, ours or VLMEvalKit's own, or of another tool.

    Args:
        run: the run.
        metric: that is explained; None for the one that tables show of each task, or that of its items.

    Raises:
        UserError: no task has the metric.
    """
    items: dict[str, list[TaskItem]] = {}
    for item in run.items:
        items.setdefault(item.task, []).append(item)
    tasks, left_out = {}, {}
    for result in run.results.tasks:
        if result.members or result.state == "not run":
            continue
        rows = items.get(result.task, [])
        known = list(dict.fromkeys(row.metric for row in rows))
        key = metric or (result.metric if result.metric in known or not known else known[0])
        if not rows:
            left_out[result.task] = NO_ITEMS
        elif key not in known:
            left_out[result.task] = f"it has no scores by item of the metric {key!r}"
        else:
            tasks[result.task] = _task(run, result, key, rows)
    if metric is not None and not tasks:
        named = sorted({item.metric for item in run.items})
        raise UserError(f"{str(run.path)!r} has no scores by item of the metric {metric!r}; it has {', '.join(named) or 'none'}")
    tool = str(run.run.get("tool") or "iit-bench")
    return Side(name=str(run.run["name"]), tool=tool, place=str(run.path), tasks=tasks, left_out=left_out)


def _task(run: TaskRun, result: TaskResult, metric: str, items: Sequence[TaskItem]) -> AskedTask:
    header = run.run
    ours = not header.get("tool")
    of_kit = header["suite"] == "vqa" and (ours or str(header["tool"]).startswith(vlmeval_files.TOOL))
    judge = result.judge or str(header.get("judge") or "")
    table = {str(line["index"]): line for line in _rows(run, result.task)} if of_kit else {}
    limit = header.get("max_new_tokens")
    known_of = _recorded(run, result.task)
    by_item: dict[str, list[TaskItem]] = {}
    for item in items:
        by_item.setdefault(item.item, []).append(item)
    answers = {
        name: _answer(rows, metric, {"limit": limit} | _of_row(table.get(name)) | known_of.get(name, {}))
        for name, rows in by_item.items()
        if any(row.metric == metric for row in rows)
    }
    dialogues = {name: str(table[name]["dialogue"]) for name in answers if table.get(name, {}).get("dialogue")}
    whole = bool(dialogues) and len(dialogues) == len(answers)
    kind = f"{KIT_RULE} of choices" if all(one.gold is not None for one in answers.values()) else f"{KIT_RULE} of {result.task}"
    rule = kind if of_kit and judge == vlmeval_files.RULES else f"{header.get('tool') or 'iit-bench'}'s {metric} of {result.task}"
    if of_kit and judge not in ("", vlmeval_files.RULES):
        rule = f"judge {judge} of {result.task}"
    return AskedTask(
        name=result.task,
        metric=metric,
        rules={metric: rule},
        answers=answers,
        settings=_settings(header, ours),
        read=kit_reading if rule == f"{KIT_RULE} of choices" else None,
        tier=next(iter(dialogues.values())).partition(":")[0] if whole else "",
        dialogues=dialogues if whole else {},
        scoring="generate" if header["suite"] == "vqa" else "",
    )


def _recorded(run: TaskRun, task: str) -> dict[str, dict[str, Any]]:
    """Item -> fields of `Answer` that files of inspect and lighteval hold beside the scores."""
    tool = str(run.run.get("tool") or "")
    if tool.startswith(inspect_logs.TOOL):
        found = inspect_logs.recorded(run.path)
        return {item: one | {"words": _sha256(one["words"])} for item, one in found.items()}
    if tool.startswith(lighteval_files.TOOL):
        found = lighteval_files.recorded(run.path, task)
        return {item: one | {"prompt": one["prompt"] and f"text:{_sha256(one['prompt'])}"} for item, one in found.items()}
    return {}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


def _answer(rows: Sequence[TaskItem], metric: str, known: Mapping[str, Any]) -> Answer:
    chosen = next(row for row in rows if row.metric == metric)
    scores = {row.metric: row.score for row in rows}
    return Answer(score=chosen.score, scores=scores, cluster=f"{chosen.task}/{chosen.cluster}", reply=chosen.reply, **known)


def _rows(run: TaskRun, task: str) -> Sequence[Mapping[str, Any]]:
    """VLMEvalKit's table of scored choices of a task, in our run folder or beside its figures; none of other kinds."""
    folder = run.path / "vlmeval" / task / "main" if run.path.is_dir() else run.path.parent
    file = vlmeval_files.choices_file(folder, task)
    return [] if file is None else read_rows(run.whole(file))


def _of_row(line: Mapping[str, Any] | None) -> dict[str, Any]:
    if line is None or not line.get("A"):
        return {}
    choices = [str(line[letter]) for letter in _LETTERS if line.get(letter) not in (None, "")]
    gold = _LETTERS.find(str(line.get("answer") or "?"))
    return {"choices": tuple(choices), "gold": gold if 0 <= gold < len(choices) else None}


def _settings(header: Mapping[str, Any], ours: bool) -> dict[Cause, Settings]:
    """What a run of ours records; of other tools' files nothing but dtype and checkpoint, where their reader found them."""
    model: Mapping[str, Any] = header["model"]
    weights = weights_of(header) if ours or model.get("checkpoint") or model.get("checkpoint_sha256") else {"checkpoint": None}
    settings: dict[Cause, Settings] = {"weights": weights, "dtype": {"dtype": str(model.get("dtype") or "").removeprefix("torch.") or None}}
    if not ours:  # an empty text in their headers means that nothing is recorded
        prompt = {"system prompt": str(header.get("system_prompt") or "") or None, "words of the prompt": None}
        return settings | {
            "prompt": prompt,
            "template": {"chat template": None},
            "decoding": {"sampling": header.get("gen_kwargs") or None},
        }
    chosen: Mapping[str, Any] = header.get("processor_kwargs") or {}
    prompt = {"layout": KIT_LAYOUT} if header["suite"] == "vqa" else {}
    prompt |= {"system prompt": str(header.get("system_prompt") or "none"), "images": "removed" if model.get("blind") else "shown"}
    prompt |= {"image settings": ", ".join(f"{name}={chosen[name]}" for name in sorted(chosen))} if chosen else {}
    template: dict[str, str | None] = {"chat template": str(model.get("chat_template_sha256") or "") or None}
    arguments: Mapping[str, Any] = header.get("chat_template_kwargs") or {}
    template["template arguments"] = ", ".join(f"{name}={arguments[name]}" for name in sorted(arguments)) or "none"
    decoding: dict[str, str | None] = {"sampling": "greedy", "reasoning tokens": str(header.get("reasoning_tokens") or 0)}
    return settings | {"prompt": prompt, "template": template, "decoding": decoding}

"""Results of lm-eval's tasks as a side: files that lm-eval wrote, and our runs of suite text, which keep such files."""

from __future__ import annotations

import hashlib
import json
from ast import literal_eval
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.explain.rules import IIT_RULE, iit_reading, lm_eval_reading, lm_eval_rule
from evaluators.explain.settings import weights_of
from evaluators.explain.sides import Answer, AskedTask, Cause, Reading, Settings, Side
from evaluators.runs.foreign import lm_eval_files
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import TaskRun
from iit_bench.types import TaskItem, TaskResult

# What of a task's configuration makes its prompts.
PROMPT_FIELDS: tuple[str, ...] = ("dataset_name", "doc_to_text", "doc_to_choice", "doc_to_target", "description", "gen_prefix")
PROMPT_FIELDS += ("fewshot_config", "process_docs", "target_delimiter", "fewshot_delimiter", "test_split", "validation_split")
DRAWING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "num_beams", "repetition_penalty")
DEFAULT_LIMIT = 256  # lm-eval's, where neither task nor user gives one
NO_SAMPLES = "its files hold no samples (run lm-eval with --log_samples)"


def text_side(run: TaskRun, metric: str | None) -> Side:
    """A run of suite text, ours or lm-eval's own, as a side.

    Args:
        run: the run.
        metric: that is explained; None for the one that tables show of each task.

    Raises:
        UserError: no task has the metric.
    """
    foreign = run.run.get("tool")
    files = [run.path] if foreign else sorted((run.path / "lm_eval").rglob("results_*.json"))
    if not files:
        raise UserError(f"run {str(run.path)!r} has no files of lm-eval in its folder lm_eval; evaluate it again")
    content = _content(run.whole(files[-1]))
    items: dict[str, dict[str, list[TaskItem]]] = {}
    for item in run.items:
        items.setdefault(item.task, {}).setdefault(item.item, []).append(item)
    tasks, left_out = {}, {}
    for result in run.results.tasks:
        if result.members or result.state == "not run":
            continue
        key = metric or result.metric
        of_task = items.get(result.task, {})
        if not of_task:
            left_out[result.task] = NO_SAMPLES
        elif key not in {one.metric for rows in of_task.values() for one in rows}:
            left_out[result.task] = f"it has no scores by item of the metric {key!r}"
        else:
            file = lm_eval_files.samples_file(files[-1], result.task)
            samples = [] if file is None else lm_eval_files.samples_in(run.whole(file))
            tasks[result.task] = _task(run, result, key, of_task, samples, content)
    if metric is not None and not tasks and left_out:
        known = sorted({item.metric for item in run.items})
        raise UserError(f"{str(run.path)!r} has no scores by item of the metric {metric!r}; it has {', '.join(known) or 'none'}")
    tool = str(foreign) if foreign else "iit-bench"
    return Side(name=str(run.run["name"]), tool=tool, place=str(run.path), tasks=tasks, left_out=left_out)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not what lm-eval wrote ({described(error)}); evaluate its run again") from error


def _task(
    run: TaskRun,
    result: TaskResult,
    metric: str,
    items: Mapping[str, Sequence[TaskItem]],
    samples: Sequence[Mapping[str, Any]],
    content: Mapping[str, Any],
) -> AskedTask:
    config: Mapping[str, Any] = (content.get("configs") or {}).get(result.task) or {}
    generates = (config.get("output_type") or result.output_type) == "generate_until"
    by_document = {str(sample["doc_id"]): sample for sample in samples}
    answers = {item: _answer(rows, by_document.get(item), metric, generates) for item, rows in items.items()}
    rules = {one.metric: lm_eval_rule(config, one.metric) for rows in items.values() for one in rows}
    read: Reading | None = lm_eval_reading(config, metric)
    documents = [sample["doc"] for sample in by_document.values()]
    dialogues = {item: str(sample["doc"]["id"]) for item, sample in by_document.items() if _is_dialogue(sample["doc"])}
    tier = str(documents[0]["tier"]) if dialogues and len(dialogues) == len(items) else ""
    if tier:
        rules, read = _exported(rules, metric, list(answers.values()), str(documents[0]["style"]), generates, read)
    return AskedTask(
        name=result.task,
        metric=metric,
        rules=rules,
        answers=answers,
        settings=_settings(run, result, config, content, by_document, tier),
        read=read,
        tier=tier,
        dialogues=dialogues if tier else {},
        scoring="generate" if generates else "loglikelihood",
    )


def _is_dialogue(document: Any) -> bool:
    return isinstance(document, dict) and {"id", "tier", "messages", "replies", "choices", "gold", "style"} <= document.keys()


def _exported(
    rules: dict[str, str], metric: str, answers: Sequence[Answer], style: str, generates: bool, read: Reading | None
) -> tuple[dict[str, str], Reading | None]:
    """The rules of tasks that `iit-bench export` wrote: those of suite iit, which the replies have to confirm where they are generated."""
    if not generates:
        return {name: f"iit-bench's {name}" for name in rules}, None
    again = iit_reading(style)(answers)  # type: ignore[arg-type]
    if any(value != answer.score for value, answer in zip(again, answers, strict=True)):  # another version wrote the export
        return rules, read
    return rules | {metric: IIT_RULE.format(style)}, iit_reading(style)  # type: ignore[arg-type]


def _answer(rows: Sequence[TaskItem], sample: Mapping[str, Any] | None, metric: str, generates: bool) -> Answer:
    scores = {row.metric: row.score for row in rows}
    chosen = next((row for row in rows if row.metric == metric), rows[0])
    known: dict[str, Any] = {"cluster": f"{chosen.task}/{chosen.cluster}"}
    if sample is not None:
        document = sample["doc"] if isinstance(sample["doc"], dict) else {}
        known["asked"] = f"{sample['doc_hash']} {sample['target_hash']}"
        known["prompt"] = _prompt(sample["arguments"], generates)
        known["target"] = sample["target"] if isinstance(sample["target"], str) else ""
        if _is_dialogue(document):
            known |= {"choices": tuple(document["choices"]), "gold": int(document["gold"]), "cluster": str(document.get("cluster", ""))}
        if generates:
            known |= _decoding(sample)
            text = _text(sample)
            known["reply"] = without_reasoning(text) if text is not None and _is_dialogue(document) else text
    return Answer(score=scores.get(metric, 0.0), scores=scores, **known)


def _prompt(arguments: Sequence[Sequence[str]], generates: bool) -> str:
    """The text that is continued; of scored choices with each choice as it follows, since a space between the two is part of the prompt."""
    if generates and len(arguments) == 1:
        return f"text:{_sha256(arguments[0][:1])}"
    return f"lm-eval's requests:{_sha256([text for one in arguments for text in one[:2]])}"


def without_reasoning(reply: str) -> str:
    """What follows the last `</think>`, as in the tasks that `iit-bench export` writes; nothing where a reply ends inside its reasoning."""
    return reply.rpartition("</think>")[2].partition("<think>")[0]


def _text(sample: Mapping[str, Any]) -> str | None:
    replies = sample["resps"][0] if sample["resps"] else []
    return str(replies[0]) if len(replies) == 1 and isinstance(replies[0], str) else None


def _decoding(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Limit, stop strings and sampling, which lm-eval records with every sample."""
    given = generation_of(sample)
    if given is None:
        return {}
    until = given.get("until") or []
    temperature = given.get("temperature")
    return {
        "limit": next((int(given[name]) for name in ("max_gen_toks", "max_new_tokens", "max_tokens") if given.get(name)), DEFAULT_LIMIT),
        "stops": tuple([until] if isinstance(until, str) else map(str, until)),
        "drawn": bool(given.get("do_sample")) and temperature not in (0, 0.0, "0", "0.0"),
    }


def generation_of(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """lm-eval's settings of generation of one sample; None where they are not there."""
    arguments: Sequence[str] = sample["arguments"][0] if sample["arguments"] else ()
    if len(arguments) < 2:
        return None
    try:
        given = literal_eval(arguments[1])
    except (ValueError, SyntaxError):
        return None
    return given if isinstance(given, dict) else None


def _sha256(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------- settings


def _settings(
    run: TaskRun,
    result: TaskResult,
    config: Mapping[str, Any],
    content: Mapping[str, Any],
    samples: Mapping[str, Mapping[str, Any]],
    tier: str,
) -> dict[Cause, Settings]:
    header = run.run
    given = _arguments(content) if header.get("tool") else {}
    chat = bool(header.get("apply_chat_template"))
    prompt: dict[str, str | None] = {"system prompt": str(header.get("system_prompt") or "none")}
    template: dict[str, str | None] = {
        "chat template": (str(header["model"].get("chat_template_sha256") or "") or None) if chat else "none"
    }
    first = next(iter(samples.values()), None)
    if tier and first is not None:
        metadata = config.get("metadata") or {}
        prompt |= {
            "layout": "turns of a chat",
            "benchmark": str(metadata.get("rows_sha256") or "") or None,
            "style": str(first["doc"]["style"]),
        }
        if len(tier) > 1:
            prompt["history"] = "gold"
        if "V" in tier:
            prompt["images"] = "shown"
    else:
        prompt["few-shot examples"] = _shots(result.n_shot, header, chat)
        if result.version:
            prompt["version of the task"] = result.version
        prompt["task's prompt"] = _sha256([f"{name}={config.get(name)}" for name in PROMPT_FIELDS])[:12] if config else None
    arguments = dict(header.get("chat_template_kwargs") or {})
    arguments |= {name: given[name] for name in ("enable_thinking", "chat_template_args") if name in given}
    template["template arguments"] = ", ".join(f"{name}={arguments[name]}" for name in sorted(arguments)) if chat and arguments else "none"
    generates = (config.get("output_type") or result.output_type) == "generate_until"
    decoding: dict[str, str | None] = {"scoring": "generate" if generates else "loglikelihood"}
    if generates:
        chosen = generation_of(first) if first is not None else None
        decoding["sampling"] = None if chosen is None else _sampling(chosen)
        decoding["reasoning tokens"] = str(header.get("reasoning_tokens") or 0)
    dtype = str(header["model"].get("dtype") or "").removeprefix("torch.")
    return {
        "prompt": prompt,
        "template": template,
        "decoding": decoding,
        "weights": weights_of(header, given),
        "dtype": {"dtype": dtype or None},
    }


def _shots(number: int | None, header: Mapping[str, Any], chat: bool) -> str | None:
    if not number:
        return None if number is None else "0"
    turns = ", as turns" if chat and header.get("fewshot_as_multiturn", True) else ""
    return f"{number}, seed {header.get('fewshot_seed', 1234)}{turns}"


def _sampling(given: Mapping[str, Any]) -> str:
    if not given.get("do_sample"):
        return "greedy" if not given.get("num_beams") or int(given["num_beams"]) == 1 else f"num_beams={given['num_beams']}"
    return ", ".join(["drawn", *(f"{name}={given[name]}" for name in DRAWING if given.get(name) is not None)])


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's `model_args`, which it records as a text or as a dict."""
    given = (content.get("config") or {}).get("model_args") or {}
    if isinstance(given, dict):
        return given
    pairs = (part.partition("=") for part in str(given).split(","))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}

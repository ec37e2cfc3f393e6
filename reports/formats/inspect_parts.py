"""Samples, scores and results of inspect, made of a run's turns and figures. Imports inspect inside functions: importing it takes seconds.

What inspect has a place for goes there; every other field of a prediction goes into the sample's metadata under its own name.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iit_bench.types import Figure, Message, Outcome, Prediction, Results, TaskItem, TaskResult
from reports.formats.dialogues import Turn, label
from reports.formats.figures import METRICS, SCORES
from reports.page import visible

if TYPE_CHECKING:
    from inspect_ai.log import EvalMetric, EvalResults, EvalSample
    from inspect_ai.model import ChatMessage, ModelOutput
    from inspect_ai.scorer import Score

# Fields of a prediction that inspect has a place for; the others are metadata.
NATIVE = ("choices", "reply", "reasoning", "prompt_tokens", "reply_tokens")
_STOPPED = {"stop": "stop", "length": "max_tokens"}
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp", b"BM": "image/bmp"}
_NO_PROMPT = "Item {item}; the prompt is in the files of the tool that asked it, beside the run's items.parquet."


# ---------------------------------------------------------------- suite iit


def sample_of_turn(turn: Turn, number: int, model: str, metrics: Sequence[str]) -> EvalSample:
    """A scored turn as a sample: the chat with its images, the reply, a score per metric.

    Args:
        number: its place in the run; a log that is read has its samples in another order.
    """
    from inspect_ai.log import EvalSample

    prediction = turn.prediction
    asked = [_message(message) for message in turn.messages]
    output = _output(prediction, model)
    seen = {} if turn.prompt is None else {"prompt": turn.prompt, "image_places": turn.image_places}
    return EvalSample(
        id=visible(turn.id),
        epoch=1,
        input=asked,
        choices=list(prediction.choices),
        target=turn.gold,
        messages=[*asked, *([output.message] if output.choices else [])],
        output=output,
        scores=None if prediction.outcome == "error" else {metric: _score(turn, metric) for metric in metrics},
        metadata={"number": number, **{name: value for name, value in vars(prediction).items() if name not in NATIVE}, **seen},
        error=None if prediction.outcome != "error" else _error(turn.failure),
        model_usage={model: output.usage} if output.usage else {},
    )


def _message(message: Message) -> ChatMessage:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ContentImage, ContentText

    if message.role == "system":
        return ChatMessageSystem(content=message.text)
    if message.role == "assistant":
        return ChatMessageAssistant(content=message.text)
    parts: list[Any] = [
        ContentText(text=part) if isinstance(part, str) else ContentImage(image=data_uri(part.data)) for part in message.parts
    ]
    return ChatMessageUser(content=message.text if not message.images else parts)


def data_uri(data: bytes) -> str:
    """A picture's file as an address that holds it."""
    kind = next((kind for start, kind in _MEDIA.items() if data.startswith(start)), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _output(prediction: Prediction, model: str) -> ModelOutput:
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput, ModelUsage

    if prediction.outcome == "error":
        return ModelOutput(model=model)
    text, reasoned = prediction.reply, prediction.reasoning
    content: Any = text if not reasoned else [ContentReasoning(reasoning=reasoned), ContentText(text=text)]
    usage = ModelUsage(
        input_tokens=prediction.prompt_tokens,
        output_tokens=prediction.reply_tokens,
        total_tokens=prediction.prompt_tokens + prediction.reply_tokens,
        reasoning_tokens=prediction.reasoning_tokens or None,
    )
    stopped: Any = _STOPPED.get(prediction.finish_reason, "unknown") if prediction.finish_reason else "stop"
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content=content, model=model, source="generate"), stop_reason=stopped)
    return ModelOutput(model=model, choices=[choice], usage=usage)


def _score(turn: Turn, metric: str) -> Score:
    from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score

    prediction = turn.prediction
    chosen = {"acc": prediction.chosen, "acc_norm": prediction.chosen_norm, "acc_bytes": prediction.chosen_bytes}[metric]
    if prediction.outcome in ("unparsed", "truncated"):
        return Score(value=NOANSWER, reason=prediction.outcome)
    right = prediction.outcome == "correct" if metric == "acc" else chosen == prediction.answer
    return Score(
        value=CORRECT if right else INCORRECT,
        answer=None if chosen < 0 else label(prediction, chosen),
        explanation=prediction.evidence or None,
    )


def _error(failure: Mapping[str, Any] | None) -> Any:
    from inspect_ai.log import EvalError

    found = failure or {"reason": "no answer", "detail": ""}
    return EvalError(message=": ".join(filter(None, (found["reason"], found["detail"]))), traceback="", traceback_ansi="")


def results_of_run(results: Results, total: int, finished: int, metrics: Sequence[str]) -> EvalResults:
    """Scores and tiers as metrics of inspect; figures that do not exist are in the metadata, with their reasons."""
    from inspect_ai.log import EvalResults, EvalScore

    scores: list[EvalScore] = []
    missing: dict[str, str] = {}
    for metric in metrics:
        figures = {name: figure for name in SCORES if (figure := getattr(results, name).get(metric))}
        figures |= {tier.tier: getattr(tier, metric) for tier in results.tiers}
        missing |= {f"{metric} {name}": figure.note for name, figure in figures.items() if figure.value is None}
        scores.append(
            EvalScore(name=metric, scorer=metric, scored_samples=finished, unscored_samples=total - finished, metrics=_all(figures))
        )
    return EvalResults(total_samples=total, completed_samples=finished, scores=scores, metadata={"not_available": missing})


def _all(figures: Mapping[str, Figure]) -> dict[str, EvalMetric]:
    return {name: metric_of(name, figure) for name, figure in figures.items() if figure.value is not None}


def metric_of(name: str, figure: Figure) -> EvalMetric:
    """A figure that exists as a metric; interval, standard error, n and clusters are its metadata."""
    from inspect_ai.log import EvalMetric

    assert figure.value is not None
    known = {field: value for field, value in vars(figure).items() if field != "value" and value not in (None, "")}
    return EvalMetric(name=name, value=figure.value, metadata=known)


def scored_metrics(scoring: str) -> tuple[str, ...]:
    """The metrics that a sample has a score for: under generate all three are one."""
    return METRICS if scoring == "loglikelihood" else METRICS[:1]


# ---------------------------------------------------------------- suites text and vqa


def samples_of_items(items: Sequence[TaskItem], model: str) -> Iterator[EvalSample]:
    """One sample per item of a task, with a score per metric. In place of the prompt, which the tool's files hold, is the item's name."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    of_item: dict[str, list[TaskItem]] = {}
    for item in items:
        of_item.setdefault(item.item, []).append(item)
    for number, (name, rows) in enumerate(of_item.items()):
        failed = rows[0].outcome == "error"
        yield EvalSample(
            id=visible(name),
            epoch=1,
            input=_NO_PROMPT.format(item=visible(name)),
            target="",
            output=ModelOutput(model=model) if failed else ModelOutput.from_content(model, rows[0].reply),
            scores=None if failed else {row.metric: Score(value=row.score, reason=_reason(row.outcome)) for row in rows},
            metadata={"number": number, "item": name, "cluster": rows[0].cluster, "metrics": [row.metric for row in rows]}
            | {"outcomes": {row.metric: row.outcome for row in rows}},
            error=_error(None) if failed else None,
        )


def _reason(outcome: Outcome) -> str | None:
    return outcome if outcome in ("unparsed", "truncated") else None


def results_of_task(result: TaskResult, total: int, finished: int) -> EvalResults:
    """A task's figures, one scorer per metric."""
    from inspect_ai.log import EvalResults, EvalScore

    scores = [
        EvalScore(name=metric, scorer=metric, scored_samples=finished, unscored_samples=total - finished, metrics=_all({"mean": figure}))
        for metric, figure in result.scores.items()
        if figure.value is not None
    ]
    return EvalResults(total_samples=total, completed_samples=finished, scores=scores)

"""A scored turn as a sample of Every Eval Ever."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from iit_bench.types import IMAGE_MARK, Image, Message
from reports.formats.dialogues import Turn, label

SCHEMA = "0.3.0"
_BREAKS = frozenset("\x85\u2028\u2029")  # that JSON leaves as they are within a text
# Fields of a prediction that are words in the metadata, where every value is a text; the others have a place of their own.
_WORDS = ("tier", "group", "question", "source", "subject", "cluster", "modality", "outcome", "evidence", "finish_reason")
_NUMBERS = ("position", "answer", "chosen", "chosen_norm", "chosen_bytes", "logprobs", "choice_tokens", "history_clusters")


def json_line(value: Any) -> str:
    """A line of JSON without what its readers refuse: NaN, infinities, and characters at which Python's `splitlines` breaks a line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(f"\\u{ord(char):04x}" if char in _BREAKS else char for char in text) + "\n" if _BREAKS & set(text) else text + "\n"


def sample(turn: Turn, evaluation: str, model: str) -> dict[str, Any]:
    """The sample; of one turn with an output, of several with the whole chat as messages.

    Args:
        evaluation: the summary's evaluation_id.
        model: its model_info.id.
    """
    prediction, asked = turn.prediction, [_text(message) for message in turn.messages]
    several = sum(message.role == "user" for message in turn.messages) > 1
    failed = prediction.outcome == "error"
    made: dict[str, Any] = {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation,
        "model_id": model,
        "evaluation_name": prediction.tier,
        "evaluation_result_id": f"{prediction.tier}/acc",
        "sample_id": turn.id,
        "sample_hash": hashlib.sha256((asked[-1] + prediction.choices[prediction.answer]).encode()).hexdigest(),
        "interaction_type": "multi_turn" if several else "single_turn",
        "input": {
            "raw": asked[-1],
            "formatted": turn.prompt,
            "reference": [prediction.choices[prediction.answer]],
            "choices": list(prediction.choices),
        },
        "output": None if several else _output(turn),
        "messages": _messages(turn, asked) if several else None,
        "answer_attribution": _attribution(turn, len(asked) if several else 0),
        "evaluation": {"score": float(prediction.outcome == "correct"), "is_correct": prediction.outcome == "correct"},
        "metadata": _metadata(turn),
    }
    if several:
        made["evaluation"]["num_turns"] = sum(message.role == "user" for message in turn.messages)
    if failed:
        found = turn.failure or {"reason": "no answer", "detail": ""}
        made["error"] = ": ".join(filter(None, (found["reason"], found["detail"])))
    else:
        made["token_usage"] = {
            "input_tokens": prediction.prompt_tokens,
            "output_tokens": prediction.reply_tokens,
            "total_tokens": prediction.prompt_tokens + prediction.reply_tokens,
            "reasoning_tokens": prediction.reasoning_tokens,
        }
    return made


def _text(message: Message) -> str:
    return "".join(IMAGE_MARK if isinstance(part, Image) else part for part in message.parts)


def _output(turn: Turn) -> dict[str, Any]:
    prediction = turn.prediction
    if prediction.outcome == "error":
        return {"raw": []}
    return {"raw": [prediction.reply]} | ({"reasoning_trace": [prediction.reasoning]} if prediction.reasoning else {})


def _messages(turn: Turn, asked: list[str]) -> list[dict[str, Any]]:
    rows = [
        {"turn_idx": number, "role": message.role, "content": text}
        for number, (message, text) in enumerate(zip(turn.messages, asked, strict=True))
    ]
    prediction = turn.prediction
    if prediction.outcome != "error":
        reasoned = {"reasoning_trace": prediction.reasoning} if prediction.reasoning else {}
        rows.append({"turn_idx": len(rows), "role": "assistant", "content": prediction.reply, **reasoned})
    return rows


def _attribution(turn: Turn, at: int) -> list[dict[str, Any]]:
    """How the answer was found; nothing where there is none."""
    prediction = turn.prediction
    if prediction.chosen < 0:
        return []
    scored = bool(prediction.logprobs)
    return [
        {
            "turn_idx": at,
            "source": f"messages[{at}].content" if at else "output.raw",
            "extracted_value": label(prediction, prediction.chosen),
            "extraction_method": "highest sum of token log-probabilities" if scored else prediction.evidence or "rule",
            "is_terminal": True,
        }
    ]


def _metadata(turn: Turn) -> dict[str, str]:
    words = {name: str(getattr(turn.prediction, name)) for name in _WORDS}
    numbers = {name: json.dumps(getattr(turn.prediction, name)) for name in _NUMBERS}
    images = [part.sha256 for message in turn.messages for part in message.images]
    return words | numbers | ({"image_sha256": " ".join(images)} if images else {})

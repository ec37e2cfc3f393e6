"""What a model thinks before it replies: the marks around it, how a reply is split at them, and how long both may be.

Reasoning is not an answer (docs/spec/iit.md#scoring): of a reply only what follows the last closing mark is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iit_bench.models.contract import GenerateRequest, GenerateResult, Model
from iit_bench.models.rendering import apply_template

AUTO_BUDGET = 4096  # tokens of reasoning, of a model whose template reasons; at most half of its context
WINDOW = 32  # tokens in which a mark is looked for while a model generates


@dataclass(frozen=True)
class Marks:
    """What begins and what ends reasoning, as text; special tokens by their names."""

    opening: str
    closing: str


THINK = Marks("<think>", "</think>")
# Read where the chat template writes both; THINK is read always.
KNOWN = (
    THINK,
    Marks("[THINK]", "[/THINK]"),
    Marks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    Marks("<seed:think>", "</seed:think>"),
    Marks("◁think▷", "◁/think▷"),
    Marks("<thought>", "</thought>"),
    Marks("<thinking>", "</thinking>"),
    Marks("<reasoning>", "</reasoning>"),
    Marks("<|begin_of_thought|>", "<|end_of_thought|>"),
)
HANDOVER = "<|end|><|start|>assistant"  # between two channels of one reply
DECLARED_FIELDS = ("reasoning_content", "reasoning", "thinking")  # of a tokenizer's `response_template` in transformers


@dataclass(frozen=True)
class Reasoning:
    """How a model reasons."""

    marks: tuple[Marks, ...] = (THINK,)
    expected: bool = False  # its template mentions reasoning, and its generation prompt does not switch it off

    def opened_by(self, prompt: str) -> bool:
        """Whether a rendered prompt ends inside reasoning: its template has written the opening mark."""
        return prompt.rstrip().endswith(self.openings)

    @property
    def openings(self) -> tuple[str, ...]:
        """The opening marks."""
        return tuple(marks.opening for marks in self.marks)


@dataclass(frozen=True)
class SplitReply:
    """A reply in its two parts."""

    reasoning: str  # without marks
    reply: str  # what follows the last closing mark
    unfinished: bool  # it ends inside its reasoning


def split_reasoning(text: str, marks: Sequence[Marks] = (THINK,), opened: bool = False) -> SplitReply:
    """A reply as written, split after its last closing mark. `opened`: the prompt has written the opening mark already."""
    ends = [(text.rfind(one.closing), one) for one in marks if one.closing in text]
    if ends:
        start, last = max(ends, key=lambda end: end[0])
        reasoning, reply = text[:start], text[start + len(last.closing) :]
    else:
        reasoning, reply = (text, "") if opened else ("", text)
    unfinished = opened and not ends
    if any(one.opening in reply for one in marks):
        reasoning, reply, unfinished = text, "", True
    return SplitReply(_without_marks(reasoning, marks), reply, unfinished)


def _without_marks(text: str, marks: Sequence[Marks]) -> str:
    for mark in [HANDOVER, *(mark for one in marks for mark in (one.opening, one.closing))]:
        text = text.replace(mark, "")
    return text.strip()


def reasoning_of(renderer: Any) -> Reasoning:
    """How the model behind a tokenizer or processor of transformers reasons, as its template and its `response_template` declare it."""
    tokenizer = getattr(renderer, "tokenizer", renderer)
    template = getattr(renderer, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    text = "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template or "")
    declared = _declared(getattr(tokenizer, "response_template", None))
    written = [one for one in KNOWN if one.closing in text and (one == THINK or one.opening in text)]
    marks = tuple(dict.fromkeys((THINK, *declared, *written)))
    prompt = _generation_prompt(renderer, tokenizer) if declared or written else ""
    is_off = prompt.rstrip().endswith(tuple(one.closing for one in marks))
    return Reasoning(marks, expected=bool(declared or written) and not is_off)


def _declared(response_template: Any) -> list[Marks]:
    fields = response_template.get("fields", {}) if isinstance(response_template, dict) else {}
    found = []
    for name in DECLARED_FIELDS:
        opening, closing = (_texts(fields.get(name, {}).get(end)) for end in ("open", "close"))
        found += [Marks(first.strip(), last.strip()) for first in opening for last in closing if first.strip() and last.strip()]
    return found


def _texts(anchor: Any) -> list[str]:
    return [anchor] if isinstance(anchor, str) else list(anchor or [])


def _generation_prompt(renderer: Any, tokenizer: Any) -> str:
    """The prompt of a short chat; "" where the template takes neither form of it."""
    from jinja2 import TemplateError

    for chosen, content in ((renderer, [{"type": "text", "text": "?"}]), (tokenizer, "?")):
        with contextlib.suppress(TemplateError):
            return apply_template(chosen, [{"role": "user", "content": content}], add_generation_prompt=True)
    return ""


def reasoning_budget(model: Model, wanted: int | None) -> int:
    """Tokens of reasoning that a reply may have beside its own; `wanted` None = AUTO_BUDGET where the model reasons, else 0."""
    if wanted is not None:
        return wanted
    limit = model.info.max_context
    return min(AUTO_BUDGET, limit // 2 if limit else AUTO_BUDGET) if model.capabilities.reasons else 0


# ---------------------------------------------------------------- tokens


def read_reply(
    tokenizer: Any, tokens: Sequence[int], request: GenerateRequest, *, prompt: str, prompt_tokens: int, reasoning: Reasoning
) -> GenerateResult:
    """The reply in generated tokens, reasoning apart; cut where the request's limits cut it, whatever else its batch allowed.

    Args:
        tokenizer: of transformers.
        tokens: generated, up to the end of the turn, which is left out.
        request: its limits.
        prompt: as rendered, up to where the tokens begin.
        prompt_tokens: only reported.
        reasoning: the model's.
    """
    tokens = list(tokens[: request.longest])
    opened = reasoning.opened_by(prompt)
    parts = split_reasoning(_decoded(tokenizer, tokens), reasoning.marks, opened)
    start = len(tokens) if parts.unfinished else _tokens_of_reasoning(tokenizer, tokens, reasoning.marks)
    reply = tokens[start : start + request.max_new_tokens]
    at_limit = len(reply) >= request.max_new_tokens or len(tokens) >= request.longest
    return GenerateResult(
        text=str(tokenizer.decode(reply, skip_special_tokens=True)).strip(),
        prompt_tokens=prompt_tokens,
        new_tokens=start + len(reply),
        finish_reason="length" if at_limit else "stop",
        reasoning=parts.reasoning,
        reasoning_tokens=start,
        unfinished_reasoning=parts.unfinished,
    )


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=False))


def _tokens_of_reasoning(tokenizer: Any, tokens: Sequence[int], marks: Sequence[Marks]) -> int:
    """How many tokens a reply takes to its last closing mark; 0 without one."""

    def closings(count: int) -> int:
        text = _decoded(tokenizer, tokens[:count])
        return sum(text.count(one.closing) for one in marks)

    total = closings(len(tokens))
    return bisect_left(range(len(tokens) + 1), total, key=closings) if total else 0


def split_text(result: GenerateResult, marks: Sequence[Marks] = (THINK,)) -> GenerateResult:
    """A result whose text may still hold reasoning (of a server, or of a log of earlier versions), with the reasoning apart."""
    parts = split_reasoning(result.text, marks)
    if not parts.reasoning and not parts.unfinished and parts.reply == result.text:
        return result
    whole = "\n\n".join(filter(None, (result.reasoning, parts.reasoning)))
    return dataclasses.replace(result, text=parts.reply.strip(), reasoning=whole, unfinished_reasoning=parts.unfinished)


def read_text_reply(
    tokenizer: Any, result: GenerateResult, request: GenerateRequest, *, prompt: str, reasoning: Reasoning
) -> GenerateResult:
    """A server's continuation of a prompt as reply and reasoning; its reply is cut where the request's limit cuts it, in our tokens."""
    has_marks = any(mark in result.text for one in reasoning.marks for mark in (one.opening, one.closing))
    if not (has_marks or reasoning.opened_by(prompt) or request.reasoning_tokens):
        return dataclasses.replace(result, text=result.text.strip())
    tokens = tokenizer.encode(result.text, add_special_tokens=False)
    read = read_reply(tokenizer, tokens, request, prompt=prompt, prompt_tokens=result.prompt_tokens, reasoning=reasoning)
    finish = read.finish_reason if read.finish_reason == "length" else result.finish_reason or "stop"
    return dataclasses.replace(read, finish_reason=finish, new_tokens=result.new_tokens)


def reply_limit(tokenizer: Any, requests: Sequence[GenerateRequest], prompts: Sequence[str], reasoning: Reasoning) -> dict:
    """Arguments of transformers' `generate` that end a row as soon as its reply is as long as it may be, its reasoning not counted.

    It only saves time: `read_reply` cuts rows to the same length. Empty where no request has a budget for reasoning.

    Args:
        tokenizer: of transformers.
        requests: one per row.
        prompts: as rendered, one per row.
        reasoning: the model's.
    """
    if not any(request.reasoning_tokens for request in requests):
        return {}
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    inside = [reasoning.opened_by(prompt) for prompt in prompts]
    since = [0] * len(requests)  # tokens at the end of each row's last reasoning

    class ReplyLimit(StoppingCriteria):
        count = 0  # of new tokens: it is asked once after each

        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            self.count += 1
            count, done = self.count, []
            for row, tokens in enumerate(input_ids[:, -min(count, WINDOW) :].tolist()):
                before, now = _decoded(tokenizer, tokens[:-1]), _decoded(tokenizer, tokens)
                if any(now.count(one.opening) > before.count(one.opening) for one in reasoning.marks):
                    inside[row] = True
                if any(now.count(one.closing) > before.count(one.closing) for one in reasoning.marks):
                    inside[row], since[row] = False, count
                done.append(not inside[row] and count - since[row] >= requests[row].max_new_tokens)
            return torch.tensor(done, device=input_ids.device)

    return {"stopping_criteria": StoppingCriteriaList([ReplyLimit()])}

"""A result as `iit-bench explain` sees it: what was asked, answered and scored, and what is on record (docs/spec/explain.md#words)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Cause = Literal["items", "prompt", "template", "extraction", "truncation", "decoding", "weights", "dtype"]
ASKED: tuple[Cause, ...] = ("prompt", "template", "decoding", "weights", "dtype")  # what changes replies, but for the limit of tokens
Settings = Mapping[str, str | None]  # what a setting is called -> its value in words; None = not recorded


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a side answered to one item."""

    score: float  # by the side's own rule; 0 where it failed
    scores: Mapping[str, float]  # by every metric that the side's files have of it
    cluster: str  # what it depends on and others may share; unique over the side's tasks
    reply: str | None = None  # generated text without reasoning; None = choices were scored
    choices: tuple[str, ...] = ()
    gold: int | None = None  # index of the right choice
    target: str = ""  # the gold answer as the tool compares it, where it is one text
    cut: bool | None = None  # it ended at the limit of tokens; None = not recorded
    limit: int | None = None  # that limit; None = not recorded
    stops: tuple[str, ...] | None = None  # stop strings; None = not recorded
    drawn: bool | None = None  # at random; None = not recorded
    histories: tuple[str, ...] = ()  # clusters of the turns before it
    asked: str = ""  # hash of what was asked; "" = not recorded
    # Hash of the whole prompt as the model read it, after what was hashed ("text", …): of the same kind, it tells equal from different.
    prompt: str = ""  # "" = not recorded
    words: str = ""  # hash of the messages, before a template made a text of them; "" = not recorded


Reading = Callable[[Sequence[Answer]], "list[float | None]"]  # scores of replies by a rule; None = it cannot read that one


@dataclass(frozen=True, kw_only=True)
class AskedTask:
    """A task as one side ran it."""

    name: str
    metric: str  # of the score
    rules: Mapping[str, str]  # metric -> identity of the rule behind it; equal identities are one rule
    answers: Mapping[str, Answer]  # item -> answer
    settings: Mapping[Cause, Settings]
    read: Reading | None = None  # runs the rule of `metric`; None = it cannot be run here
    tier: str = ""  # dialogues of the IIT benchmark: their tier
    dialogues: Mapping[str, str] = field(default_factory=dict)  # and item -> Dialogue.id
    scoring: str = ""  # "loglikelihood" | "generate"; "" = not recorded

    @property
    def rule(self) -> str:
        """Identity of the rule of `metric`."""
        return self.rules[self.metric]

    @property
    def score(self) -> float:
        """Mean over all items."""
        return sum(answer.score for answer in self.answers.values()) / len(self.answers)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A result: the tasks of one model by one tool."""

    name: str  # of the model or run
    tool: str  # "iit-bench", "lm-eval 0.4.13", "VLMEvalKit", …
    place: str  # what it was read from
    tasks: Mapping[str, AskedTask]
    left_out: Mapping[str, str]  # task -> why it cannot be explained
    unsealed: bool = False  # it has files that no checksum covers

"""Transition sentences between turns (docs/spec/iit.md#building-7-connectors).

A connector precedes a turn and never changes the question's words. It depends only on the previous turn and the turn that it introduces,
so dialogues with the same first turns have the same connectors between them.
"""

from __future__ import annotations

import json
import os
from functools import partial

from builders.dialogues import Connect
from builders.words import hashed
from iit_bench.errors import UserError
from iit_bench.types import Question

CONNECTORS = ("none", "template", "openai")
OF_A_GROUP = 1000  # pairs whose sentences a connector remembers that makes them quickly; those of one group are fewer

# language -> modalities of (previous turn, turn to introduce) -> sentences
_TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "TT": ("Here is another question.", "Next question.", "Let us go on."),
        "TV": ("Now a question about a picture.", "Next, please look at a picture.", "Let us turn to a picture."),
        "VT": ("Now a question without a picture.", "Let us leave the picture aside.", "The next question has no picture."),
        "VV": ("Now another picture.", "Here is the next picture.", "Please look at one more picture."),
    },
    "zh": {
        "TT": ("下一个问题。", "我们继续。"),
        "TV": ("现在请看一张图片。", "下一个问题与图片有关。"),
        "VT": ("下一个问题没有图片。", "我们先不看图片。"),
        "VV": ("请看另一张图片。", "下一张图片。"),
    },
}
_INSTRUCTION = (
    "Write one short, natural transition sentence, in the language of the second question, that leads from the first question to the "
    "second. Do not answer, repeat, rephrase or hint at either question. Reply with the sentence alone."
)


def make_connect(connector: str, seed: int) -> Connect | None:
    """A function that makes the sentence between two turns, once for each pair; None for the connector `none`.

    Raises:
        UserError: unknown connector; no API key. The function raises it where it gets no sentence from the API.
    """
    if connector == "none":
        return None
    if connector == "template":
        return by_id(partial(template, seed=seed), OF_A_GROUP)
    if connector == "openai":
        return by_id(openai_connector(), None)
    raise UserError(f"unknown connector {connector!r}; --connector is one of {', '.join(CONNECTORS)}")


def by_id(make: Connect, remembered: int | None) -> Connect:
    """`make`, which remembers the sentences of so many pairs by the ids of their questions (None: of all)."""
    pairs: dict[tuple[str, str], str] = {}

    def connect(before: Question, after: Question) -> str:
        pair = (before.id, after.id)
        if pair not in pairs:
            if remembered is not None and len(pairs) >= remembered:
                pairs.clear()
            pairs[pair] = make(before, after)
        return pairs[pair]

    return connect


def template(before: Question, after: Question, seed: int) -> str:
    """A fixed sentence for this change of modality, chosen by hash; in English if there is none in the turn's language."""
    sentences = _TEMPLATES.get(after.language.split("-")[0], _TEMPLATES["en"])[before.modality + after.modality]
    return min(sentences, key=lambda sentence: hashed("connector", seed, before.id, after.id, sentence))


def openai_connector() -> Connect:
    """A function that has an LLM write the sentence, behind an OpenAI-compatible API.

    Environment: OPENAI_BASE_URL (default: OpenAI's), OPENAI_API_KEY, IIT_BENCH_CONNECTOR_MODEL.

    Raises:
        UserError: no key in the environment.
    """
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
    key, model = os.environ.get("OPENAI_API_KEY", ""), os.environ.get("IIT_BENCH_CONNECTOR_MODEL", "gpt-4o-mini")
    if not key:
        raise UserError("--connector openai needs the environment variable OPENAI_API_KEY; set it, or use --connector template")
    from iit_bench import http

    session = http.Session()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def request_sentence(before: Question, after: Question) -> str:
        content = f"First question: {before.question}\nSecond question: {after.question}"
        messages = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": content}]
        body = {"model": model, "temperature": 0, "messages": messages}
        try:
            reply = session.send("POST", f"{base}/chat/completions", content=json.dumps(body), headers=headers, seconds=60)
            if reply.status != 200:
                raise ValueError(f"HTTP {reply.status}")
            sentence = reply.json()["choices"][0]["message"]["content"]
        except (*http.ERRORS, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"--connector openai got no sentence from {base} ({http.in_words(error)}); "
                "check the address, key and model, or use template"
            ) from error
        return " ".join(str(sentence).split())

    return request_sentence

"""The three ways in which servers return the log-probabilities of given tokens: requests, and how their replies are read.

- `completions`: /completions with `echo` and `logprobs` on prompts of token ids (vLLM; SGLang, which computes them for the whole prompt).
- `generate`: SGLang's own /generate with `logprob_start_len`, which computes them for the reply only.
- a chat that ends in the reply: vLLM's /chat/completions with `prompt_logprobs` and `continue_final_message`, which takes images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.models.contract import ScoreResult
from iit_bench.models.openai.encoding import Spelling, chat_body, chat_messages, echo_body, read_echo
from iit_bench.models.raw_text import Pair
from iit_bench.types import Message

Request = tuple[str, dict[str, Any], Callable[[Any], Any]]  # path, body, and how to read the reply
OTHER_TOKENS = "the server reads the reply as other tokens"  # reason in errors.jsonl


def completions_request(served: str, pairs: Sequence[Pair]) -> Request:
    """One request for all pairs: the server shares what they have in common, and their answers come together or not at all."""
    return "/completions", echo_body(served, [before + after for before, after in pairs]), lambda reply: _read_completions(reply, pairs)


def _read_completions(reply: Any, pairs: Sequence[Pair]) -> list[ScoreResult]:
    results = []
    for (logprobs, tops), (before, after) in zip(read_echo(reply, len(pairs)), pairs, strict=True):
        own = slice(len(before), len(before) + len(after))
        values, best = logprobs[own], tops[own]
        if len(values) != len(after):
            raise ValueError("log-probabilities are missing")
        numbers = list(map(_logprob, values))
        greedy = all(value >= max(top.values()) for value, top in zip(numbers, best, strict=True))  # type: ignore[union-attr]
        results.append(ScoreResult((float(sum(numbers)),), (len(after),), (greedy,), len(before)))
    return results


def _logprob(value: Any) -> float:
    """A log-probability of a reply; JSON's true and false are none, although Python counts with them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("log-probabilities are missing")
    return float(value)


def generate_request(served: str, pairs: Sequence[Pair]) -> Request:
    """As `completions_request`. SGLang serves one model, so `served` is not sent; no more than one token is generated."""
    body = {
        "input_ids": [before + after for before, after in pairs],
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "logprob_start_len": [len(before) - 1 for before, _ in pairs],  # the first position has no value of its own
        "top_logprobs_num": 1,
    }
    return "/generate", body, lambda reply: _read_generate(reply, pairs)


def _read_generate(reply: Any, pairs: Sequence[Pair]) -> list[ScoreResult]:
    if len(reply) != len(pairs):
        raise ValueError(f"{len(reply)} answers for {len(pairs)} prompts")
    results = []
    for answer, (before, after) in zip(reply, pairs, strict=True):
        found = answer["meta_info"]
        own, tops = found["input_token_logprobs"][-len(after) :], found["input_top_logprobs"][-len(after) :]
        if [entry[1] for entry in own] != list(after):
            raise ValueError("log-probabilities are of other tokens")
        values = [_logprob(entry[0]) for entry in own]
        greedy = all(value >= max(_logprob(top[0]) for top in best) for value, best in zip(values, tops, strict=True))
        results.append(ScoreResult((sum(values),), (len(after),), (greedy,), len(before)))
    return results


SCORING = {"completions": completions_request, "generate": generate_request}


def chat_request(served: str, spelling: Spelling, messages: Sequence[Message], reply: str, tokens: Sequence[int] | None = None) -> Request:
    """The log-probabilities of `reply` as the last turn of a chat.

    Args:
        served: the model's name on the server.
        spelling: of the length limit.
        messages: the chat before the reply.
        reply: the text of the last turn.
        tokens: ids that the reply must have on the server, checked; None: only whether it returns log-probabilities.
    """
    settings = {"continue_final_message": True, "add_generation_prompt": False, "prompt_logprobs": 1, "return_token_ids": True}
    chat = [*chat_messages(messages), {"role": "assistant", "content": reply}]
    return "/chat/completions", chat_body(served, spelling, chat, 1, **settings), lambda answer: _read_chat_scores(answer, tokens)


def _read_chat_scores(answer: Any, tokens: Sequence[int] | None) -> ScoreResult:
    """The sum over the prompt's last tokens.

    Raises:
        ItemError: they are not `tokens`: the server's template or tokenizer is another one.
    """
    places = answer["prompt_logprobs"]
    asked = [_first(places[-1])] if tokens is None else list(map(str, tokens))
    own, ids = places[-len(asked) :], answer.get("prompt_token_ids")
    if ids:
        known = list(map(str, ids[-len(asked) :]))
    else:  # an older server: a place holds its own token and the most likely one
        known = [token if token in place else _first(place) for token, place in zip(asked, own, strict=True)]
    if tokens is not None and known != asked:
        raise ItemError(OTHER_TOKENS, f"it ends in {known}, the tokenizer of --tokenizer gives {asked}")
    entries: list[Mapping[str, Any]] = [place[token] for token, place in zip(asked, own, strict=True)]
    total = float(sum(_logprob(entry["logprob"]) for entry in entries))
    greedy = all(entry["rank"] == 1 for entry in entries)
    return ScoreResult((total,), (len(asked),), (greedy,), len(places) - len(asked))


def _first(place: Mapping[str, Any]) -> str:
    """The first token that a place names.

    Raises:
        ValueError: it names none.
    """
    for token in place:
        return token
    raise ValueError("a place has no token")

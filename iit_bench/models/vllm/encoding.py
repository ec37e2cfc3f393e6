"""Chats as vLLM reads them, and its outputs as ours: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.images import decode_item
from iit_bench.models.contract import ScoreResult
from iit_bench.types import Message


def tokens_prompt(tokens: list[int], messages: Sequence[Message] = ()) -> dict[str, Any]:
    """vLLM's TokensPrompt: vLLM itself expands an image's placeholder in the tokens.

    Raises:
        ItemError: an image is unreadable.
    """
    images = [decode_item(image) for message in messages for image in message.images]
    return {"prompt_token_ids": tokens} | ({"multi_modal_data": {"image": images}} if images else {})


def read_score(output: Any, reply: Sequence[int]) -> ScoreResult:
    """The last tokens of an echoed prompt: `prompt_logprobs` has per token a dict of the most likely one and of the token itself."""
    if list(output.prompt_token_ids[-len(reply) :]) != list(reply):
        raise ItemError("refused by vLLM", "the prompt does not end in the reply's tokens")
    own = [tokens[token] for tokens, token in zip(output.prompt_logprobs[-len(reply) :], reply, strict=True)]
    total = float(sum(one.logprob for one in own))
    return ScoreResult((total,), (len(reply),), (all(one.rank == 1 for one in own),), len(output.prompt_token_ids) - len(reply))

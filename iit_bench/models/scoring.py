"""Log-probabilities of several replies to a prompt that is encoded once; shared by every model that runs in this process.

A prompt's tokens are processed once, whatever the number of replies: its cache is extended by each reply of two tokens or more, and a reply
of one token needs no second pass at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from iit_bench.errors import ItemError
from iit_bench.models.contract import ScoreResult

if TYPE_CHECKING:
    import torch

LOGITS_PER_EXTENSION = 2**28  # 1 GiB in float32
ROWS_PER_EXTENSION = 64  # replies scored together, at least; each holds a copy of its prompt's cache meanwhile


class PrefixScorer(Protocol):
    """What `score_prefixed` needs of a model."""

    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, Any]:
        """Encode prompts. Returns the logits after each one's last token [B, V] and a state that is never changed."""

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """Extend row `rows[i]` of `state` by `tokens[i]` (1 or more, ragged). Returns logits [len(rows), longest, V]."""


def split_continuation(encode: Callable[[str], list[int]], prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of a raw text and of its continuation, cut as lm-eval cuts them (`TemplateLM._encode_pair`).

    White space at the prompt's end counts to the reply, both are encoded in one piece, and the reply is what follows the prompt's tokens.
    Replies in chats are cut by `replies.cut_replies` instead.

    Raises:
        ItemError: the reply has no token of its own.
    """
    stripped = prompt.rstrip()
    before = encode(stripped)
    after = encode(prompt + continuation)[len(before) :]
    if not after:
        raise ItemError("reply without tokens", f"{continuation!r} merges with the prompt's last token")
    return before, after


def score_prefixed(
    scorer: PrefixScorer,
    prompts: Sequence[Any],
    prompt_tokens: Sequence[int],
    replies: Sequence[Sequence[list[int]]],
    merged: Sequence[int] = (),
) -> list[ScoreResult]:
    """Score the tokenised replies `replies[i]` to `prompts[i]`; `prompt_tokens[i]` and `merged[i]` are only reported.

    Log-probabilities are a log-softmax in float32, whatever the model's dtype.
    """
    logits, state = scorer.prefill(prompts)
    first = logits.float().log_softmax(dim=-1)  # [B, V]
    rows = [row for row, texts in enumerate(replies) for _ in texts]
    tokens = [reply for texts in replies for reply in texts]
    sums, greedy = _first_tokens(first, rows, tokens)
    longer = [i for i, reply in enumerate(tokens) if len(reply) > 1]
    room = LOGITS_PER_EXTENSION // (first.shape[1] * max(map(len, tokens)))
    step = max(1, min(room, max(ROWS_PER_EXTENSION, len(prompts))))
    for start in range(0, len(longer), step):
        part = longer[start : start + step]
        more = scorer.extend(state, [rows[i] for i in part], [tokens[i][:-1] for i in part])
        for i, (total, is_greedy) in zip(part, _later_tokens(more, [tokens[i][1:] for i in part]), strict=True):
            sums[i] += total
            greedy[i] &= is_greedy
    results, done = [], 0
    for texts, length, apart in zip(replies, prompt_tokens, merged or [0] * len(replies), strict=True):
        own = slice(done, done + len(texts))
        done += len(texts)
        results.append(ScoreResult(tuple(sums[own]), tuple(len(reply) for reply in texts), tuple(greedy[own]), length, apart))
    return results


def score_single_rows(
    row_logits: Callable[[list[int], int], torch.Tensor],
    prompts: Sequence[list[int]],
    replies: Sequence[Sequence[list[int]]],
    merged: Sequence[int] = (),
    *,
    whole: bool = False,
) -> list[ScoreResult]:
    """As `score_prefixed`, with one pass per row of prompt and reply: for models whose scores of a row depend on what is beside it.

    Args:
        row_logits: logits [n, V] of a row's last n tokens.
        prompts: their tokens.
        replies: of each prompt.
        merged: only reported.
        whole: whether a row holds its reply's last token too. No logits of it are needed, but it counts where the length of a row does.
    """
    import torch

    results = []
    for prompt, texts, apart in zip(prompts, replies, merged or [0] * len(prompts), strict=True):
        of_rows: dict[tuple[int, ...], torch.Tensor] = {}  # replies that begin alike share a row, all those of one token for example
        found = []
        for reply in texts:
            read = reply if whole else reply[:-1]
            if tuple(read) not in of_rows:
                logits = row_logits([*prompt, *read], len(read) + 1)[: len(reply)]
                of_rows[tuple(read)] = logits.float().log_softmax(dim=-1)
            logprobs, token = of_rows[tuple(read)], torch.tensor(reply, device=of_rows[tuple(read)].device)
            total = float(logprobs.gather(1, token[:, None]).sum())
            found.append((total, len(reply), bool((logprobs.argmax(dim=-1) == token).all())))
        sums, counts, greedy = zip(*found, strict=True)
        results.append(ScoreResult(tuple(sums), tuple(counts), tuple(greedy), len(prompt), apart))
    return results


def _first_tokens(logprobs: torch.Tensor, rows: list[int], tokens: list[list[int]]) -> tuple[list[float], list[bool]]:
    import torch

    row = torch.tensor(rows, device=logprobs.device)
    token = torch.tensor([reply[0] for reply in tokens], device=logprobs.device)
    return logprobs[row, token].tolist(), (logprobs.argmax(dim=-1)[row] == token).tolist()


def _later_tokens(logits: torch.Tensor, targets: Sequence[list[int]]) -> list[tuple[float, bool]]:
    """Sum of log-probabilities, and whether each was the most likely token, of ragged `targets` under logits [M, L, V]."""
    import torch

    length = logits.shape[1]
    padded = torch.tensor([row + [0] * (length - len(row)) for row in targets], device=logits.device)
    real = torch.tensor([[i < len(row) for i in range(length)] for row in targets], device=logits.device)
    chosen = logits.float().log_softmax(dim=-1).gather(2, padded[:, :, None])[:, :, 0]
    sums = torch.where(real, chosen, 0.0).sum(dim=1).tolist()
    greedy = ((logits.argmax(dim=-1) == padded) | ~real).all(dim=1).tolist()
    return list(zip(sums, greedy, strict=True))


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: str | torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ragged token rows → input_ids and attention_mask, both [B, N] int64, padding on the left."""
    return _pad(rows, pad, device, left=True)


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: str | torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """As `pad_left`, padding on the right."""
    return _pad(rows, pad, device, left=False)


def _pad(rows: Sequence[Sequence[int]], pad: int, device: str | torch.device, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    width = max(map(len, rows))
    fill = [[pad] * (width - len(row)) for row in rows]
    ids = [[*f, *row] if left else [*row, *f] for row, f in zip(rows, fill, strict=True)]
    mask = [[0] * len(f) + [1] * len(row) if left else [1] * len(row) + [0] * len(f) for row, f in zip(rows, fill, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

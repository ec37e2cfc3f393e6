"""Tokens that checkpoints declare in a way that would change scores or end a pass: ends of texts, ids beyond the embedding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from iit_bench.errors import ItemError, UserError

WORD = "a"


def drop_end_tokens(tokenizer: Any) -> dict[str, Any]:
    """Make a tokenizer stop appending special tokens to a text, such as the end-of-text token of `add_eos_token`.

    With them a prompt would end in the end of the text, and a reply would be what follows it. Tokens put before a text stay.

    Returns:
        For `ModelInfo.settings`: the tokens that are no longer appended; empty where there were none.

    Raises:
        UserError: they cannot be switched off.
    """
    begins, ends = _around(tokenizer)
    if not ends:
        return {}
    if getattr(tokenizer, "is_fast", False):
        from tokenizers.processors import TemplateProcessing

        names = [str(tokenizer.convert_ids_to_tokens(token)) for token in begins]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*(f"{name}:0" for name in names), "$A:0"],
            pair=[*(f"{name}:0" for name in names), "$A:0", "$B:1"],
            special_tokens=list(dict(zip(names, begins, strict=True)).items()),
        )
    else:
        tokenizer.build_inputs_with_special_tokens = lambda first, second=None: [*begins, *first, *(second or [])]
    dropped = [str(tokenizer.convert_ids_to_tokens(token)) for token in ends]
    if _around(tokenizer)[1]:
        raise UserError(
            f"the tokenizer appends {' '.join(dropped)} to every text, so that a prompt is the end of one; set add_eos_token to false in "
            "its tokenizer_config.json"
        )
    return {"end_tokens_dropped": dropped}


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer puts before and after a text."""
    bare, whole = list(tokenizer.encode(WORD, add_special_tokens=False)), list(tokenizer.encode(WORD))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def pad_token(tokenizer: Any, model: Any) -> int:
    """A token id to fill rows with, which the model's embedding has: the tokenizer's pad, else its end of text, else 0.

    Tokenizers with a pad token that was added after training name one past the embedding's last row. Padding is masked, so any id serves.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(token) for token in named if token is not None and 0 <= token < rows), 0)


BEYOND = "token beyond the embedding"  # the reason in errors.jsonl
# Their forward passes take another id's row in the place of an image, whose features follow: transformers 5.23, modeling_*.py.
LOOKS_UP_NO_MARKS = frozenset({"gemma3", "gemma4", "gemma4_unified", "paligemma"})
MARKS = ("image_token_id", "video_token_id", "audio_token_id")  # of a configuration


class TokenIds:
    """Which token ids a model has an input embedding for. A tokenizer that is not the model's own may write others.

    Args:
        model: of transformers.
        tokenizer: names a token in the error.
        marks: ids that the model does not look up, though they have no row: places of images.
    """

    def __init__(self, model: Any, tokenizer: Any, marks: Iterable[int] = ()) -> None:
        embedding = model.get_input_embeddings()
        self.rows = int(embedding.weight.shape[0]) + int(getattr(embedding, "num_additional_embeddings", 0))  # the latter: Idefics
        own = MARKS if model.config.model_type in LOOKS_UP_NO_MARKS else ()
        self._marks = frozenset(marks) | {getattr(model.config, name, None) for name in own}
        self._tokenizer = tokenizer

    def check(self, *rows: Sequence[int]) -> None:
        """Refuse tokens that the model cannot read.

        Raises:
            ItemError: an id is beyond the embedding's last row.
        """
        for ids in rows:
            if ids and max(ids) >= self.rows and (beyond := [token for token in ids if token >= self.rows and token not in self._marks]):
                raise ItemError(BEYOND, f"{self.described(beyond[0])}; use the tokenizer that the model was trained with")

    def missing(self) -> list[int]:
        """Ids of the tokenizer that the model has no row for, ascending."""
        return sorted(token for token in self._tokenizer.get_vocab().values() if token >= self.rows and token not in self._marks)

    def described(self, token: int) -> str:
        """A token without a row, in words."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        return f"the tokenizer writes token id {token} ({name!r}), and the model's embedding has {self.rows} rows"

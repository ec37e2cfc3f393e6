"""Rows of a tree through a Wings model: chats as paths, one pass over a row, and its comparison with plain passes at load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from iit_bench.errors import one_line
from iit_bench.models.huggingface.rows import FAILS, agree, probe_tokens, tolerance
from iit_bench.models.huggingface.tree_rows import read_edges
from iit_bench.models.wings.encoding import EncodedChat
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.token_trees import ImageSymbols, TokenPath, TreeRow, build_row, symbols
from iit_bench.types import Image

Features = Callable[[Sequence[Image]], torch.Tensor | None]  # images -> tower features [n, T, D_v]


@dataclass(frozen=True, kw_only=True)
class ImagePath(TokenPath):
    """A path with its images in reading order; each is a run of T negative symbols of the prompt."""

    images: tuple[Image, ...] = ()


class WingsTrees:
    """Passes over rows of a tree through one model. `features` gives the tower's, so that an image in several rows is encoded once."""

    def __init__(self, model: WingsForConditionalGeneration, device: str, features: Features) -> None:
        self.model, self.device, self.features = model, device, features
        self.length = model.config.image_token_length or 1
        self._symbols = ImageSymbols()

    def path(self, chat: EncodedChat) -> ImagePath:
        """A chat and its replies in symbols."""
        prompt = symbols(chat.input_ids)
        if chat.images:
            mark = self.model.config.image_token_id
            starts = [i for i, token in enumerate(chat.input_ids) if token == mark][:: self.length]
            for start, image in zip(starts, chat.images, strict=True):
                prompt[start : start + self.length] = symbols(self._symbols.of(image.sha256, self.length))
        return ImagePath(prompt=prompt, replies=tuple(map(symbols, chat.replies)), merged=chat.merged, images=chat.images)

    @torch.inference_mode()
    def run(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """As `tree_scoring.TreeScoring.run_row`."""
        return self.pass_over(row, self.features(images_of(row, paths, self.length)))

    def pass_over(self, row: TreeRow, features: torch.Tensor | None) -> tuple[list[float], list[bool]]:
        """`run` with the features [n, T, D_v] of the row's images in the order of its columns."""
        ids = np.where(row.symbols < 0, self.model.config.image_token_id, row.symbols)
        logits = self.model(
            torch.from_numpy(ids)[None].to(self.device),
            ends=torch.from_numpy(row.ends)[None].to(self.device),
            image_features=features,
            logits_to_keep=torch.from_numpy(row.nodes).to(self.device),
        ).logits
        return read_edges(logits[0], row)


def images_of(row: TreeRow, paths: Sequence[TokenPath], length: int) -> list[Image]:
    """The images of a row in the order of its columns, an image in several branches once for each.

    Args:
        row: of `paths`.
        paths: `ImagePath`s, or paths without images.
        length: T, columns per image.
    """
    columns = np.flatnonzero(row.symbols < 0)
    images = []
    for start in columns[::length]:
        path = paths[row.path[start]]
        assert isinstance(path, ImagePath)
        before = np.count_nonzero(np.frombuffer(path.prompt, dtype=np.int32)[: row.depth[start]] < 0)
        images.append(path.images[before // length])
    return images


# ---------------------------------------------------------------- the check at load


def why_no_tree(trees: WingsTrees, tokenizer: Any, max_context: int | None) -> str:
    """Why rows of a tree are not right for this model: their scores are not those of plain passes. "" where they are."""
    chats = _probe(trees, tokenizer, max_context)
    try:
        found, right = _in_a_tree(trees, chats), _plainly(trees, chats)
    except FAILS as error:
        return f"a pass over a tree fails: {one_line(error)}"
    counts = [[len(reply) for reply in chat.replies] for chat in chats]
    same = agree(found, right, counts, tolerance(trees.model.dtype))
    return "" if same else "scores of a tree differ from those of plain passes in the check at load"


def _probe(trees: WingsTrees, tokenizer: Any, max_context: int | None) -> list[EncodedChat]:
    """Siblings, a later turn, and in mode `strict` images in both turns, as far as they fit the context."""
    config = trees.model.config
    prompts, replies = probe_tokens(tokenizer, config.text_config.vocab_size)
    chats = [EncodedChat(input_ids=prompt, replies=own) for prompt, own in zip(prompts, replies, strict=True)]
    chats.append(EncodedChat(input_ids=prompts[0] + replies[0][0], replies=replies[1]))
    if config.mode == "strict" and config.image_token_length is not None:
        mark, images = [config.image_token_id] * trees.length, (Image(b"1"), Image(b"2"))
        shown = [*prompts[0][:3], *mark, *prompts[0][3:]]
        chats.append(EncodedChat(input_ids=shown, replies=replies[0][:1], images=images[:1]))
        chats.append(EncodedChat(input_ids=[*shown, *replies[0][0], *mark, *prompts[2]], replies=replies[2][:1], images=images))
    longest = [len(chat.input_ids) + max(map(len, chat.replies)) for chat in chats]
    return [chat for chat, length in zip(chats, longest, strict=True) if max_context is None or length <= max_context]


def _features(trees: WingsTrees, images: Sequence[Image]) -> torch.Tensor | None:
    """Random features [n, T, D_v], the same for the same image."""
    if not images:
        return None
    shape = trees.length, int(trees.model.config.vision_hidden_size or 0)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(image.data[0])) for image in images]
    return torch.stack(drawn).to(device=trees.device, dtype=trees.model.dtype)


@torch.inference_mode()
def _in_a_tree(trees: WingsTrees, chats: Sequence[EncodedChat]) -> list[list[float]]:
    paths = [trees.path(chat) for chat in chats]
    row = build_row(paths)
    logprobs, _ = trees.pass_over(row, _features(trees, images_of(row, paths, trees.length)))
    return [[sum(logprobs[edge] for edge in reply) for reply in edges] for edges in row.edges]


@torch.inference_mode()
def _plainly(trees: WingsTrees, chats: Sequence[EncodedChat]) -> list[list[float]]:
    """Scores of each reply from a pass over its own row."""
    sums: list[list[float]] = []
    for chat in chats:
        sums.append([])
        for reply in chat.replies:
            row = torch.tensor([[*chat.input_ids, *reply]], device=trees.device)
            logits = trees.model(row, image_features=_features(trees, chat.images), logits_to_keep=len(reply) + 1).logits[0, :-1]
            sums[-1].append(float(logits.log_softmax(dim=-1).gather(1, row[0, -len(reply) :, None]).sum()))
    return sums

"""Rows of a tree through an image-text model of transformers: images as runs of columns that rows share, and one pass over a row.

A column of an image is a negative symbol, the same for equal images, so chats that begin alike share images as they share words. A row goes
in as `input_ids` with positions and mask of its own; features are those of its columns, in their order. Only families of `FAMILIES` are
tried; every model is compared with whole plain passes when it is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from iit_bench.errors import ItemError
from iit_bench.models.huggingface.image_chats import MISMATCH, ImageChats
from iit_bench.models.huggingface.image_features import Features
from iit_bench.models.huggingface.image_parts import ImagePart
from iit_bench.models.huggingface.tree_families import additive, attention_refuses, masks_of, visible_nodes, why_not
from iit_bench.models.huggingface.tree_rows import read_edges
from iit_bench.token_trees import ImageSymbols, TokenPath, TreeRow, symbols

# model_type of image-text configurations that are causal over text, with the model_type of their text part: None = any that may be asked so
# by itself (`tree_families.FAMILIES`).
FAMILIES: dict[str, str | None] = {
    **dict.fromkeys(["idefics3", "internvl", "llava", "llava_next", "llava_onevision", "mistral3", "ovis2", "smolvlm"]),
    "gemma3": "gemma3_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
}
BOTH_WAYS = frozenset(["gemma3"])  # columns of an image see each other


@dataclass(frozen=True, kw_only=True)
class ImagePath(TokenPath):
    """A chat in symbols.

    Attributes:
        parts: its images, in the order of their columns.
    """

    parts: tuple[ImagePart, ...] = ()


class ImageTrees:
    """Passes over rows of a tree through one image-text model."""

    def __init__(self, model: Any, chats: ImageChats, device: str) -> None:
        self.model, self.chats, self.device = model, chats, device
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._rope_index = getattr(getattr(model, "model", None), "get_rope_index", None)
        self._symbols = ImageSymbols()

    def refused(self) -> str:
        """Why this family is not asked so; "" if it may be tried."""
        kind, text = self.model.config.model_type, self.model.config.get_text_config()
        if kind not in FAMILIES or text.model_type != (FAMILIES[kind] or text.model_type):
            return f"family {kind} of {text.model_type} is not listed as one whose rows of a tree equal plain passes"
        if FAMILIES[kind] is None:
            return why_not(text)
        if refused := attention_refuses(text):
            return refused
        if getattr(text, "sliding_window", None) and kind not in BOTH_WAYS:
            return "some layers of its attention have a window"
        return ""

    # ------------------------------------------------------------ paths

    def path(self, tokens: Sequence[int], parts: Sequence[ImagePart], replies: Sequence[Sequence[int]], merged: int = 0) -> ImagePath:
        """A chat in tokens with a mark per image, its images and the replies to it.

        Raises:
            ItemError: other places of features than features: a row would pass them for words.
        """
        ids = np.array(self.chats.filled(tokens, parts), dtype=np.int64)
        at = ids == self.chats.parts.column
        if int(at.sum()) != sum(part.columns for part in parts):
            raise ItemError(MISMATCH, f"{int(at.sum())} places of features in the chat, {sum(part.columns for part in parts)} features")
        ids[at] = [symbol for part in parts for symbol in self._symbols.of(part.key, part.columns)]
        own = tuple(symbols(reply) for reply in replies)
        return ImagePath(prompt=symbols(ids.tolist()), replies=own, merged=merged, parts=tuple(parts))

    # ------------------------------------------------------------ rows

    @torch.inference_mode()
    def run(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """As `tree_scoring.TreeScoring.run_row`."""
        nodes = torch.from_numpy(row.nodes).to(self.device)
        keep = {"logits_to_keep": nodes} if self._keeps else {}
        at_image = row.symbols < 0
        ids = np.where(at_image, self.chats.parts.column, row.symbols)
        output = self.model(
            input_ids=torch.from_numpy(ids)[None].to(self.device),
            position_ids=self._positions(row, paths),
            attention_mask=self._masks(row),
            use_cache=False,
            **({"mm_encoder_outputs": self.chats.features.outputs_of(self._features(row, paths))} if at_image.any() else {}),
            **keep,
        )
        logits = output.logits[0]
        return read_edges(logits if self._keeps else logits[nodes], row)

    def _features(self, row: TreeRow, paths: Sequence[TokenPath]) -> Features:
        """Features of the row's columns in the order of its nodes."""
        start: dict[str, int] = {}
        held: list[Features] = []
        size = 0
        chosen = np.zeros(len(row), dtype=np.int64)
        for number in np.unique(row.path[row.symbols < 0]).tolist():
            path = paths[number]
            for part in path.parts:
                if part.key not in start:
                    start[part.key], size = size, size + part.columns
                    held.append(self.chats.features.of(part))
            rows = np.concatenate([start[part.key] + np.arange(part.columns) for part in path.parts])
            column = np.cumsum(np.frombuffer(path.prompt, dtype=np.int32) < 0) - 1  # at each depth
            own = (row.path == number) & (row.symbols < 0)
            chosen[own] = rows[column[row.depth[own]]]
        index = torch.from_numpy(chosen[row.symbols < 0])
        return {name: torch.cat([one[name] for one in held])[index] for name in held[0]}

    def _positions(self, row: TreeRow, paths: Sequence[TokenPath]) -> torch.Tensor:
        """[1, N], or [3, 1, N] where a model counts time, height and width: what its own rule gives each path."""
        if self._rope_index is None:
            return torch.from_numpy(row.depth)[None].to(self.device)
        positions = np.zeros((3, len(row)), dtype=np.int64)
        for number in np.unique(row.path).tolist():
            own = row.path == number
            positions[:, own] = self._along(paths[number])[:, row.depth[own]]
        return torch.from_numpy(positions)[:, None].to(self.device)

    def _along(self, path: TokenPath) -> np.ndarray:
        """Positions [3, N] along a path of a model that counts in three dimensions."""
        prompt = np.frombuffer(path.prompt, dtype=np.int32)
        at_image = torch.from_numpy(prompt < 0)[None]
        ids = torch.where(at_image, self.chats.parts.column, torch.from_numpy(prompt.astype(np.int64))[None])
        parts = path.parts if isinstance(path, ImagePath) else ()
        grid = torch.cat([part.kept["image_grid_thw"] for part in parts]).cpu() if parts else None
        assert self._rope_index is not None
        found = self._rope_index(input_ids=ids, mm_token_type_ids=at_image.int(), image_grid_thw=grid)[0][:, 0].numpy()
        more = found.max() + 1 + np.arange(max(map(len, path.replies)))
        return np.concatenate((found, np.broadcast_to(more, (3, len(more)))), axis=1)

    def _masks(self, row: TreeRow) -> Any:
        """A mask, or one per kind of layer."""
        config = self.model.config.get_text_config()
        if FAMILIES[self.model.config.model_type] is None:
            return masks_of(row, config, self.model.dtype, self.device)
        visible = visible_nodes(row, self.device)
        if self.model.config.model_type not in BOTH_WAYS:
            return additive(visible, self.model.dtype)
        depth = row.depth
        at_image = row.symbols < 0
        begins = at_image & ~np.concatenate(([False], at_image[:-1] & (depth[1:] == depth[:-1] + 1)))
        block = np.where(at_image, np.cumsum(begins), 0)
        visible |= torch.from_numpy((block[:, None] == block[None, :]) & at_image[:, None] & at_image[None, :]).to(self.device)
        near = torch.from_numpy(depth[None, :] > depth[:, None] - config.sliding_window).to(self.device)
        dtype = self.model.dtype
        return {"full_attention": additive(visible, dtype), "sliding_attention": additive(visible & near, dtype)}

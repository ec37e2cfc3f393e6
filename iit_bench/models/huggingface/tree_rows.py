"""One pass over a row of a tree through a causal language model of transformers.

A node sees its ancestors by a float mask, at the position it has in its path. Only families of `tree_families` are tried; every model is
compared with plain passes when it is loaded.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from iit_bench.models.huggingface.tree_families import first_position, masks_of, why_not
from iit_bench.token_trees import TreeRow

LOGITS_AT_ONCE = 2**26  # float32 numbers: 256 MiB


class TreeRows:
    """Passes over rows of a tree through one model."""

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.device = model, device
        self.config = model.config.get_text_config(decoder=True)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def refused(self) -> str:
        """Why this model is not asked so; "" if it may be tried."""
        return why_not(self.config)

    @torch.inference_mode()
    def run(self, row: TreeRow) -> tuple[list[float], list[bool]]:
        """As `tree_scoring.TreeScoring.run_row`."""
        nodes = torch.from_numpy(row.nodes).to(self.device)
        keep = {"logits_to_keep": nodes} if self._keeps else {}
        output = self.model(
            input_ids=torch.from_numpy(row.symbols)[None].to(self.device),
            position_ids=(torch.from_numpy(row.depth) + first_position(self.config))[None].to(self.device),
            attention_mask=masks_of(row, self.config, self.model.dtype, self.device),
            use_cache=False,
            **keep,
        )
        logits = output.logits[0]
        return read_edges(logits if self._keeps else logits[nodes], row)


def read_edges(logits: torch.Tensor, row: TreeRow) -> tuple[list[float], list[bool]]:
    """Log-probabilities (nats) of a row's scored tokens, and whether each is the most likely one, from logits [W, V] after `row.nodes`.

    The log-softmax is in float32, whatever the logits' dtype.
    """
    logprobs, greedy = np.zeros(len(row.edge_node)), np.zeros(len(row.edge_node), dtype=bool)
    step = max(1, LOGITS_AT_ONCE // logits.shape[1])
    for start in range(0, logits.shape[0], step):
        part = logits[start : start + step].float()
        edges = np.flatnonzero((row.edge_node >= start) & (row.edge_node < start + step))
        node = torch.from_numpy(row.edge_node[edges] - start).to(part.device)
        token = torch.from_numpy(row.edge_token[edges]).to(part.device)
        logprobs[edges] = part.log_softmax(dim=-1)[node, token].cpu().numpy()
        greedy[edges] = (part.argmax(dim=-1)[node] == token).cpu().numpy()
    return logprobs.tolist(), greedy.tolist()

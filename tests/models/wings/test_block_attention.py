"""Attention of blocks of rows is torch's attention of each block, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from iit_bench.models.wings.block_attention import attend
from iit_bench.models.wings.state import Rows


def blocks() -> list[Rows]:
    """Rows of which all is visible, causal ones, a row of one token, rows without keys, and rows with a mask."""
    mask = torch.zeros(2, 1, 3, 7, dtype=torch.float64).masked_fill(torch.rand(2, 1, 3, 7) > 0.7, float("-inf"))
    mask[..., 0] = 0
    masked = Rows(rows=2, queries=3, keys=7, mask=mask)
    causal = [Rows(rows=2, queries=5, keys=5, causal=True), Rows(rows=1, queries=1, keys=1, causal=True)]
    return [Rows(rows=2, queries=3, keys=3), *causal, Rows(rows=3, queries=2, keys=0), masked]


@pytest.mark.oracle
@pytest.mark.parametrize("heads", [4, 2])
def test_outputs_are_those_of_each_block_and_gradients_finite_differences(heads: int) -> None:
    torch.manual_seed(0)
    rows, spare = blocks(), 2
    query = torch.randn(sum(of.rows * of.queries for of in rows) + spare, 4, 8, dtype=torch.float64, requires_grad=True)
    keys = sum(of.rows * of.keys for of in rows)
    key, value = (torch.randn(keys + spare, heads, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = attend(query, key, value, rows, 0.3)
    first = first_key = 0
    for of in rows:
        own = query[first : first + of.rows * of.queries].unflatten(0, (of.rows, of.queries)).transpose(1, 2)
        end = first_key + of.rows * of.keys
        others = [states[first_key:end].unflatten(0, (of.rows, of.keys)).transpose(1, 2) for states in (key, value)]
        more = {"attn_mask": of.mask, "is_causal": of.causal, "scale": 0.3, "enable_gqa": True}
        expected = functional.scaled_dot_product_attention(own, *others, **more) if of.keys else torch.zeros_like(own)
        torch.testing.assert_close(found[first : first + of.rows * of.queries], expected.transpose(1, 2).flatten(0, 1))
        first, first_key = first + of.rows * of.queries, end
    assert not found[first:].any()
    assert torch.autograd.gradcheck(lambda *states: attend(*states, rows, 0.3), (query, key, value), fast_mode=True)

"""Products of matrices in float32 on a processor, for the nodes of `fused_layer`, by the faster one of torch's two libraries.

torch multiplies by MKL, which on AMD's processors leaves AVX-512 unused: 105 GFLOP/s per core where oneDNN, which torch has too, reaches
230 (Zen 5). torch calls oneDNN's product in float32 only from code that its compiler makes, so that the operation is tried once before it
is used. The choice depends on nothing but machine and shapes: the same step has the same bits again.
"""

from __future__ import annotations

from functools import cache

import torch

LARGE = 8 << 20  # multiplications of a product from which oneDNN is used: for each new shape it makes a program, in about 0.5 ms
MULTIPLE = 32  # rows of a pass whose number is a multiple of it have few shapes


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a bᵀ, without gradients: [M, K] and [N, K] → [M, N]."""
    if not _by_onednn(a, b):
        return a @ b.t()
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # type: ignore[no-any-return]


def plus_product(onto: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """onto + a bᵀ, without gradients: [M, N], [M, K] and [N, K] → [M, N]."""
    return product(a, b).add_(onto) if _by_onednn(a, b) else torch.addmm(onto, a, b.t())


def of_weight(of_output: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """The gradient of W, given that of W states: [M, N] and [M, K] → [N, K]."""
    narrow, wide = sorted((of_output, states), key=lambda part: part.shape[1])
    found = product(narrow.t(), wide.t())  # the first is copied into the order of its transposed by oneDNN
    return found if narrow is of_output else found.t()


def _by_onednn(a: torch.Tensor, b: torch.Tensor) -> bool:
    plain = a.device.type == "cpu" and a.dtype == b.dtype == torch.float32
    return plain and a.shape[0] * a.shape[1] * b.shape[0] >= LARGE and _available()


@cache
def _available() -> bool:
    """Whether this machine has AVX-512 and torch the operation, with the arguments and the result that are known here."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    a, b = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4).t()
    try:
        found = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # another version of torch
        return False
    return torch.equal(found, a @ b.t())

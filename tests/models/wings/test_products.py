"""Products by oneDNN are those of MKL; where they are not to be had, or are something else, MKL is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from iit_bench.models.wings import products


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    products._available.cache_clear()
    yield
    products._available.cache_clear()


@pytest.mark.parametrize(("rows", "inner", "outer"), [(1, 5, 3), (0, 4, 4), (300, 200, 160), (300, 160, 200)])
def test_products_are_those_of_float64(rows: int, inner: int, outer: int) -> None:
    torch.manual_seed(0)
    states, weight, onto = torch.randn(rows, inner), torch.randn(outer, inner), torch.randn(rows, outer)
    exact = states.double() @ weight.double().t()
    torch.testing.assert_close(products.product(states, weight).double(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(products.product(states, weight.t().contiguous().t()).double(), exact, rtol=1e-5, atol=1e-4)
    kept = onto.clone()
    torch.testing.assert_close(products.plus_product(onto, states, weight).double(), onto + exact, rtol=1e-5, atol=1e-4)
    assert torch.equal(onto, kept)
    of_weight = products.of_weight(onto, states)
    torch.testing.assert_close(of_weight.double(), onto.double().t() @ states.double(), rtol=1e-5, atol=1e-4)


class Operations:
    """torch's operations with another one in the place of oneDNN's product."""

    def __init__(self, operation: Any) -> None:
        if operation is not None:
            self._linear_pointwise = operation


def raises(*_: Any) -> torch.Tensor:
    raise TypeError("other arguments")


@pytest.mark.parametrize("operation", [None, raises, lambda a, *_: a.new_zeros(2, 4)])
def test_an_operation_that_is_missing_or_another_is_not_used(operation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.ops, "mkldnn", Operations(operation))
    a, b = torch.randn(300, 200), torch.randn(160, 200)
    assert torch.equal(products.product(a, b), a @ b.t())


def test_the_operation_is_used_for_large_products_in_float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    seen: list[tuple[int, ...]] = []

    def operation(a: torch.Tensor, b: torch.Tensor, *_: Any) -> torch.Tensor:
        seen.append(tuple(a.shape))
        return a @ b.t()

    monkeypatch.setattr(torch.ops, "mkldnn", Operations(operation))
    large, small = torch.randn(300, 200), torch.randn(10, 200)
    products.product(large, large)
    products.product(small, large)
    products.product(large.double(), large.double())
    assert seen == [(2, 3), (300, 200)]

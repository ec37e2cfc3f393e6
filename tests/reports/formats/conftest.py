"""Hostile texts, as models and data sets may write them."""

from __future__ import annotations

import pytest

HOSTILE = (
    '=HYPERLINK("http://x","y")',
    "<script>alert(1)</script>|a|[b](javascript:c)",
    "\\input{secret} 100% of $x_1$ & #2 ~^",
    "[9cm] *bold* _i_ `code` @all http://example.org",
    "a\u202eb\x00c\u2028d",
)


@pytest.fixture
def hostile() -> tuple[str, ...]:
    return HOSTILE

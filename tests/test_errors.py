"""Errors of other libraries, quoted in ours."""

from __future__ import annotations

import pytest

from iit_bench.errors import QUOTED, described, first_line, one_line


@pytest.mark.parametrize(
    ("error", "first", "one", "whole"),
    [
        (ValueError("no such key"), "no such key", "no such key", "ValueError: no such key"),
        (KeyError("answer"), "'answer'", "'answer'", "KeyError: 'answer'"),
        (OSError("\n  cannot load\n\n  hint: log in\n"), "cannot load", "cannot load hint: log in", "OSError: cannot load hint: log in"),
        (TimeoutError(), "TimeoutError", "TimeoutError", "TimeoutError"),
        (ValueError(" \n"), "ValueError", "ValueError", "ValueError"),
    ],
)
def test_an_error_is_quoted_on_one_line(error, first, one, whole):
    assert (first_line(error), one_line(error), described(error)) == (first, one, whole)


def test_a_page_of_an_error_is_cut():
    assert one_line(ValueError("x" * 5000)) == "x" * QUOTED

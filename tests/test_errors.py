"""Errors of other libraries, quoted in ours."""

from __future__ import annotations

import pytest

from iit_bench.errors import QUOTED, UserError, described, one_line


@pytest.mark.parametrize(
    ("error", "one", "whole"),
    [
        (ValueError("no such key"), "no such key", "ValueError: no such key"),
        (KeyError("answer"), "'answer'", "KeyError: 'answer'"),
        (OSError("\n  cannot load\n\n  hint: log in\n"), "cannot load hint: log in", "OSError: cannot load hint: log in"),
        (TimeoutError(), "TimeoutError", "TimeoutError"),
        (ValueError(" \n"), "ValueError", "ValueError"),
    ],
)
def test_an_error_is_quoted_on_one_line(error, one, whole):
    assert (one_line(error), described(error)) == (one, whole)


def test_a_message_of_this_project_is_repeated_whole():
    ours = UserError("the folder '/a  b' " + "is long, " * QUOTED)
    assert one_line(ours) == described(ours) == str(ours)


def test_a_page_of_an_error_is_cut():
    assert one_line(ValueError("x" * 5000)) == "x" * QUOTED


def test_sentences_of_a_page_are_whole():
    """An error was cut at its first line's end or in a word; now after its last whole sentence, or between two words."""
    assert one_line(ImportError(f"This needs gptqmodel\n(pip install gptqmodel). {'More ' * 80}.")) == (
        "This needs gptqmodel (pip install gptqmodel)."
    )
    cut = one_line(ValueError("some words " * 60))
    assert cut.endswith(" …") and len(cut) <= QUOTED

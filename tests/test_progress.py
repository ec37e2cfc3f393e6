"""Bars on stderr."""

from __future__ import annotations

import pytest

from iit_bench.progress import bar, whole_job


@pytest.mark.parametrize("title", ["openai:m: answering", "openai:fire: answering", "hf:models/[bold]: answering", "[/x] of hf:a"])
def test_names_in_a_bars_title_are_shown_as_they_are(title, capsys):
    """The model openai:m was shown with a sign for ":m:", and a name in brackets was left out; right: the name."""
    with bar(title, 2) as advance:
        advance(2)
    assert title in capsys.readouterr().err
    with whole_job({"iit": 2}) as job, job.part("iit"), bar(title, 2) as advance:
        advance(2)
    assert title in capsys.readouterr().err

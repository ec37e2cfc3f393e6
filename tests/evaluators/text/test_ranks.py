"""lm-eval in one of several processes of a run."""

from __future__ import annotations


def test_a_process_that_a_launcher_numbers_otherwise_than_0_gets_the_results(options, run_with, model, monkeypatch):
    """lm-eval returns no results to a process whose LOCAL_RANK is not 0, and the last process of a run may have any number."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_with(model, options("piqa")).complete

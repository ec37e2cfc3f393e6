"""What lm-eval does to the process is undone."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable

import datasets
import lm_eval.api.metrics
import lm_eval.api.task
import lm_eval.evaluator
import numpy as np
import pytest
import torch

from iit_bench.tools.lm_eval.process import evaluating, loading


def state() -> dict[str, object]:
    return {
        "level": logging.getLogger("lm_eval").level,
        "bars": datasets.are_progress_bars_disabled(),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "errors of numpy": np.geterr(),
        "variable": os.environ.get("HF_ALLOW_CODE_EVAL"),
        "bar": lm_eval.api.task.tqdm,
        "bootstrap": lm_eval.api.metrics.bootstrap_stderr,
        "git": lm_eval.evaluator.get_git_commit_hash,
    }


def disturb() -> None:
    """As lm-eval does: seeds everything."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.mark.parametrize("context", [loading, lambda **options: evaluating(lambda: "abc", **options)], ids=["loading", "evaluating"])
def test_the_process_is_left_as_it_was_also_after_an_error(context: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    before = state()
    with context(unsafe_code=True):
        disturb()
        inside = state()
    assert [name for name, value in state().items() if value != before[name]] == []
    with pytest.raises(KeyError), context():
        disturb()
        raise KeyError
    assert [name for name, value in state().items() if value != before[name]] == []
    assert inside["level"] == logging.ERROR and inside["bars"] and inside["variable"] == "1"


def test_bars_that_were_off_stay_off() -> None:
    datasets.disable_progress_bars()
    try:
        with loading():
            pass
        assert datasets.are_progress_bars_disabled()
    finally:
        datasets.enable_progress_bars()


def test_code_is_not_allowed_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with loading():
        assert "HF_ALLOW_CODE_EVAL" not in os.environ


def test_the_evaluator_prints_nothing_and_asks_our_git(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with evaluating(lambda: "abc"):
        logging.getLogger("lm_eval").warning("for those who write tasks")
        assert lm_eval.evaluator.get_git_commit_hash() == "abc"
        ours = lm_eval.api.metrics.bootstrap_stderr(np.mean, [0.0, 1.0, 1.0], iters=10)
        assert list(lm_eval.api.task.tqdm([1, 2])) == [1, 2]
        assert np.isnan(np.float64("-inf") - np.float64("-inf"))
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert ours == lm_eval.api.metrics.bootstrap_stderr(np.mean, [0.0, 1.0, 1.0], iters=10)
    assert capfd.readouterr().out != ""  # what lm-eval prints otherwise

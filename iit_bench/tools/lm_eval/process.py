"""What lm-eval does to the process that it runs in, undone: messages, progress bars, seeds, variables."""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any
from unittest.mock import patch

from iit_bench.progress import bar
from iit_bench.tools.random_states import random_states_kept


@contextmanager
def loading(*, unsafe_code: bool = False) -> Iterator[None]:
    """For the time in which tasks are loaded: no messages, no bars; generators of random numbers are afterwards as before.

    Args:
        unsafe_code: allow metrics that run programs; some do when they are loaded.
    """
    with without_advice(), _without_bars(), random_states_kept(), _code_allowed(unsafe_code):
        yield


@contextmanager
def evaluating(git_commit: Callable[[], str | None], *, unsafe_code: bool = False, progress: bool = False) -> Iterator[None]:
    """For the time in which lm-eval evaluates or writes its results: as `loading`, and without what its evaluator prints.

    Scores of failed documents are -inf, of which numpy would warn. Its bootstrap draws in this process, as many processes would draw
    the same. A process that a launcher has numbered other than 0 on its machine would get no results from it; here any may get them.

    Args:
        git_commit: replaces lm-eval's own, which complains where there is no repository.
        progress: show our own bar while a bootstrap draws.
    """
    import numpy as np
    from lm_eval import evaluator
    from lm_eval.api import metrics, task

    with ExitStack() as stack:
        stack.enter_context(loading(unsafe_code=unsafe_code))
        stack.enter_context(np.errstate(invalid="ignore"))
        stack.enter_context(patch.object(task, "tqdm", functools.partial(task.tqdm, disable=True)))
        stack.enter_context(patch.dict(os.environ, {"DISABLE_MULTIPROC": "1", "LOCAL_RANK": "0"}))
        stack.enter_context(patch.object(metrics, "bootstrap_stderr", _with_our_bar(metrics.bootstrap_stderr, progress)))
        stack.enter_context(patch.object(evaluator, "get_git_commit_hash", git_commit))
        yield


@contextmanager
def without_advice() -> Iterator[None]:
    """No warnings of lm-eval: they are for those who write tasks, and what a user must know is in the results."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of `datasets` beside our own."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _code_allowed(allowed: bool) -> Iterator[None]:
    """Sets the variable that metrics which run programs ask for."""
    with patch.dict(os.environ, {"HF_ALLOW_CODE_EVAL": "1"} if allowed else {}):
        yield


def _with_our_bar(bootstrap: Callable[..., float], show: bool) -> Callable[..., float]:
    """lm-eval's bootstrap without its own name and bar, which it prints on standard output, where --json writes."""

    @functools.wraps(bootstrap)
    def call(metric: Callable[..., Any], items: Any, iters: int) -> float:
        with bar(f"standard error of {metric.__name__}", iters, show) as advance:

            @functools.wraps(metric)
            def counted(draw: Any) -> Any:
                advance(1)
                return metric(draw)

            with redirect_stdout(io.StringIO()), _tqdm_silent():
                return bootstrap(counted, items, iters=iters)

    return call


def _tqdm_silent() -> Any:
    """lm-eval's bootstrap takes its bar from the package when it runs."""
    import tqdm

    return patch.object(tqdm, "tqdm", functools.partial(tqdm.tqdm, disable=True))

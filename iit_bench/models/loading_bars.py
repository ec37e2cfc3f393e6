"""Progress bars that transformers and the Hub show by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_bars(*, downloads: bool) -> Iterator[None]:
    """A context in which transformers shows no bar of weights; the Hub shows its downloads where `downloads` is true.

    Contexts may be nested: what the outer one hides stays hidden, and what it shows is shown again after the inner one.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    shown, hub_shown = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.disable_progress_bar()  # the Hub's as well
    if hub_shown and downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
        (enable_progress_bars if hub_shown else disable_progress_bars)()

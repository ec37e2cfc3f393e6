"""Progress bars that transformers and the Hub show by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_bars(*, downloads: bool) -> Iterator[None]:
    """A context in which transformers shows no bar of weights; the Hub shows its downloads where `downloads` is true."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # the Hub's as well
    if shown and downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

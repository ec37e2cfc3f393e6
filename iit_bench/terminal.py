"""The one place through which words reach the terminal: what models, data sets, servers and strangers' run folders wrote is made visible.

Nothing else in the rooms prints (`tests/test_terminal.py`); pages make words visible by the same rule (`reports/page.py`).
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, TextIO

from iit_bench.visible import escaped, visible


def write(text: str, *, end: str = "\n", file: TextIO | None = None, flush: bool = False, json: bool = False) -> None:
    """Print a text, as `print` does, with everything spelled out that a reader could not see or a terminal would obey.

    Args:
        text: lines.
        end: follows it.
        file: a stream; None = stdout.
        flush: write through to it.
        json: the text is JSON, whose values stay what they are: they are spelled with JSON's own escapes.
    """
    stream = file or sys.stdout
    shown = escaped(text) if json else visible(text)
    try:
        print(shown, end=end, file=stream, flush=flush)
    except UnicodeEncodeError:  # a terminal that has not all characters
        encoding = stream.encoding
        print(shown.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=flush)


def label(text: str) -> str:
    """A text on one line, for a progress bar, which takes it without markup."""
    return " ".join(visible(text).split())


def spell_out_libraries() -> None:
    """From now on what libraries log or warn about in this process is visible too: they quote checkpoints and data sets as they are.

    Pillow's warning of large pictures is not shown.
    """
    logging.setLogRecordFactory(_VisibleRecord)
    warnings.formatwarning = _visible_warning
    # Limits of our own are in its place (images.py); as a regular expression, because Pillow is not imported yet.
    warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit")


class _VisibleRecord(logging.LogRecord):
    def getMessage(self) -> str:
        return visible(super().getMessage())


_formatwarning = warnings.formatwarning


def _visible_warning(*args: Any, **kwargs: Any) -> str:
    return visible(_formatwarning(*args, **kwargs))

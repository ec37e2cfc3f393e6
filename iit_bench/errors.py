"""The errors a user meets, each one sentence (the thing, what is wrong with it, the fix); and how errors of other libraries are quoted."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[.!?](?=\s)")
QUOTED = 300  # characters of another library's message that an error of ours repeats


class UserError(Exception):
    """Bad input or a bad environment. The command line prints its message and exits with code 2; `--debug` shows the traceback."""


class ItemError(Exception):
    """One item cannot be scored (corrupt image, longer than the model's context). It is written to errors.jsonl and the run continues."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason  # short and countable, e.g. "context overflow", "unreadable image"
        self.detail = detail


class MachineError(Exception):
    """The machine failed, not the item. The items count as errors until the run is resumed and they succeed; if a server is unavailable,
    the run stops at once (engine/concurrent.py)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class OthersAtWork(Exception):
    """This process has done its part of a run; what is left is in the hands of other processes, the last of which writes the results.

    The command line prints it and exits with code 0: a launcher such as torchrun ends all processes when one fails.
    """


OWN = (UserError, ItemError, MachineError, OthersAtWork)


def one_line(error: BaseException) -> str:
    """Another library's message as one line, or its class's name if it has none; a message of this project as it is.

    Of a message of more than QUOTED characters the sentences that fit whole; if not even the first does, its words that fit.
    """
    if isinstance(error, OWN):
        return str(error)
    message = " ".join(str(error).split())
    if len(message) <= QUOTED:
        return message or type(error).__name__
    sentences = [match.end() for match in _SENTENCE.finditer(message, 0, QUOTED)]
    if sentences:
        return message[: sentences[-1]]
    return message[: QUOTED - 2].rpartition(" ")[0] + " …" if " " in message[: QUOTED - 2] else message[:QUOTED]


def described(error: BaseException) -> str:
    """Class and message on one line, e.g. "KeyError: 'answer'": for errors whose message by itself explains nothing. As `one_line`."""
    if isinstance(error, OWN):
        return str(error)
    name, message = type(error).__name__, one_line(error)
    return name if message == name else f"{name}: {message}"

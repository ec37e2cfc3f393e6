"""The errors a user meets: one sentence that names the thing, says what is wrong and how to fix it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a bad environment. The command line prints its text alone and exits with code 2; `--debug` shows the traceback."""


class ItemError(Exception):
    """One item cannot be scored (corrupt image, longer than the model's context). It goes to errors.jsonl and the run goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason  # short and countable, e.g. "context overflow", "unreadable image"
        self.detail = detail


class MachineError(Exception):
    """The machine, not the item, failed. The items are errors until the run is resumed and they succeed; where it is a server that is gone,
    the run stops at once (engine/concurrent.py)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

"""One sentence for a run most of whose replies say nothing that could be read, naming what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def advice(outcomes: Mapping[str, int], run: Mapping[str, Any], *, reasoned: bool, scores: bool = False) -> str:
    """What to change where more than half of the replies are truncated or unparsed; "" elsewhere.

    Args:
        outcomes: outcome -> items; errors are no replies.
        run: run.json.
        reasoned: whether replies began with reasoning.
        scores: whether the model could score given replies instead (suite iit).
    """
    cut, unread = outcomes.get("truncated", 0), outcomes.get("unparsed", 0)
    replies = sum(count for name, count in outcomes.items() if name != "error")
    if 2 * (cut + unread) <= replies:
        return ""
    if cut >= unread:
        return f"{cut:,} of {replies:,} replies were cut before they named a choice; {_for_cut(run, reasoned)}"
    return f"{unread:,} of {replies:,} replies name no choice that could be read; {_for_unread(run, scores)}"


def _for_cut(run: Mapping[str, Any], reasoned: bool) -> str:
    length = f"--max-new-tokens (now {run['max_new_tokens'] or 'the default'})"
    if not reasoned:
        return f"raise {length}"
    switch = "switch reasoning off, with --chat-template-kwargs enable_thinking=false where the model's template has that"
    return f"raise --reasoning-tokens (now {run.get('reasoning_tokens', 0)}) or {length}, or {switch}"


def _for_unread(run: Mapping[str, Any], scores: bool) -> str:
    if run["suite"] != "iit":
        return "read some in items.parquet, then try a --system-prompt"
    styles = " or ".join(style for style in ("letters", "options") if style != run["style"])
    scoring = ", or --scoring loglikelihood" if scores else ""
    return f"read some in predictions.parquet, then try --style {styles}, a --system-prompt{scoring}"

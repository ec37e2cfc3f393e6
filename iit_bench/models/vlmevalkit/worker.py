"""The process in which a model of VLMEvalKit's zoo runs: `python -m iit_bench.models.vlmevalkit.worker NAME`.

It reads a message a line from its standard input (VLMEvalKit's own form, as JSON) and answers {"text": …} or {"error": …} on its standard
output; the first line it writes is {"class": …, "interleave": …}, or {"error": …} where there will be no more. All that VLMEvalKit prints
goes to its standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from difflib import get_close_matches
from typing import Any

from iit_bench.errors import described

FAILED = "Failed to obtain answer via API."  # what VLMEvalKit's API models return instead of raising


def main(name: str) -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    model = _load(name)
    if isinstance(model, str):
        say({"error": model})
        return 2
    say({"class": type(model).__name__, "interleave": bool(getattr(model, "INTERLEAVE", False))})
    for line in sys.stdin:
        try:
            text = str(model.generate(json.loads(line)))
        except Exception as error:  # noqa: BLE001 - code of any model: one item that fails is told and counted
            traceback.print_exc()
            say({"error": described(error)})
        else:
            say({"error": text} if FAILED in text else {"text": text})
    return 0


def _load(name: str) -> Any:
    """The model, or a sentence that says why there is none."""
    try:
        from vlmeval.config import supported_VLM
    except ImportError as error:
        return f"model 'vlmeval:{name}' needs the whole of VLMEvalKit ({error}): pip install ms-vlmeval"
    if name not in supported_VLM:
        close = get_close_matches(name, list(supported_VLM), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {len(supported_VLM)}, see its list of supported_VLM"
        return f"VLMEvalKit's zoo has no model {name!r}; {hint}"
    try:
        return supported_VLM[name]()
    except Exception as error:  # noqa: BLE001 - code of any model
        traceback.print_exc()
        return f"VLMEvalKit cannot load its model {name!r}: {described(error)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

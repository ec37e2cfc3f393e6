"""The process in which a model of VLMEvalKit's zoo runs: `python -m iit_bench.models.vlmevalkit.worker NAME`.

The first reply comes unasked: {"class": …, "interleave": …}, or {"error": …} and the process ends. A request is a message in VLMEvalKit's
own form; the reply is {"text": …} or {"error": …}.
"""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from typing import Any

from iit_bench.errors import described, one_line
from iit_bench.tools.vlmevalkit import FAILED
from iit_bench.tools.worker_process import replies, requests


def main(name: str) -> int:
    """Load the model, then answer one message per request."""
    reply = replies()
    model = _load(name)
    if isinstance(model, str):
        reply({"error": model})
        return 2
    reply({"class": type(model).__name__, "interleave": bool(getattr(model, "INTERLEAVE", False))})
    for message in requests():
        try:
            text = str(model.generate(message))
        except Exception as error:  # noqa: BLE001 - code of any model: an item that fails is reported and counted
            traceback.print_exc()
            reply({"error": described(error)})
        else:
            reply({"error": text} if FAILED in text else {"text": text})
    return 0


def _load(name: str) -> Any:
    """The model, or a sentence with the reason why there is none."""
    try:
        from vlmeval.config import supported_VLM
    except ImportError as error:
        return f"model 'vlmeval:{name}' needs the whole of VLMEvalKit ({one_line(error)}): pip install ms-vlmeval"
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

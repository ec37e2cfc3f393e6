"""Runs a script in a process of its own whose time and memory are bounded: what is a stranger's is tried there before it is used here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECONDS = 10  # of a processor, for all of a trial; what is harmless needs thousandths
BYTES = 2 * 2**30  # of addresses
PATIENCE = 30  # times as long by the clock: a machine may have much other work


def tried(script: str, asked: Mapping[str, Any], seconds: int, size: int) -> tuple[Any, str]:
    """What a script of this folder answers.

    Args:
        script: its file's name. It reads a JSON object from standard input, sets the limits, and writes JSON; it imports nothing of this
            project, so that it starts at once.
        asked: the object; `seconds` and `bytes` are added.
        seconds: of a processor.
        size: bytes of addresses.

    Returns:
        The answer, and ""; or None, and why there is none.
    """
    command = [sys.executable, "-P", str(Path(__file__).with_name(script))]
    request = json.dumps({**asked, "seconds": seconds, "bytes": size}).encode()
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=PATIENCE * seconds, check=False)
    except subprocess.TimeoutExpired:
        return None, f"has not ended after {PATIENCE * seconds} seconds"
    if done.returncode > 0:  # of Python itself
        return None, f"cannot be tried ({done.stderr.decode(errors='replace').strip().splitlines()[-1:]})"
    if done.returncode or not done.stdout:
        return None, f"takes more than {seconds} seconds or {size / 2**30:.3g} GB of memory"
    return json.loads(done.stdout), ""

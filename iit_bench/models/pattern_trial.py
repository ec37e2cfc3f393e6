"""Matches a stranger's regular expressions against names in a process of its own: some expressions take longer than anybody waits.

Run as a file, with a JSON object on standard input: `patterns`, `names`, `seconds`, `bytes`. Prints `true` when all is matched.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys

# What peft 0.21 makes of a text of adapter_config.json before it matches it.
FORMS = ("{}", r"(?:{})\Z", r".*\.{}$", r"(.*\.)?({})$", r"(^|.*\.){}($|\..*)", r"(?:^|.*?\.){}\.(?P<idx>\d+)\.")


def limit(seconds: int, size: int) -> None:
    """Bound the time and memory of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: who started this process ends it
        return
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of addresses; a stricter limit holds already
            resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    request = json.loads(sys.stdin.buffer.read())
    limit(request["seconds"], request["bytes"])
    for pattern in request["patterns"]:
        for form in FORMS:
            with contextlib.suppress(re.error, OverflowError, RecursionError):  # peft has its own words for these
                search = re.compile(form.replace("{}", pattern)).search if form == "{}" else re.compile(form.replace("{}", pattern)).match
                for name in request["names"]:
                    search(name)
    sys.stdout.write("true")

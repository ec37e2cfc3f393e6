"""The rule for open answers with one gold answer, of tables that VLMEvalKit has no rule for: the two are the same words and numbers.

Words are compared as VLMEvalKit compares them (case, articles, punctuation and number words are no difference), which takes signs off
numbers: "-5" would equal "5". So the numbers of both must be equal as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# A sign belongs to a number where no word or number ends before it: "-5" and "$-5", not "2-3".
_NUMBER = re.compile(r"(?<![\w.,])[-+](?=\.?\d)|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d*\.?\d+")
_MINUS = "\N{MINUS SIGN}"


def exactly(process_line: Callable[..., dict[str, Any]], line: Mapping[str, Any], **ignored: Any) -> dict[str, Any]:
    """VLMEvalKit's record of a row: "gt" and "pred", the gold answers and the reply as they are compared, and "match", a bool per answer.

    Args:
        process_line: VLMEvalKit's function of this name.
        line: a row with "answer" and "prediction".
        ignored: the rule that the data set's class names.
    """
    reply = _written(line["prediction"])
    answers = [_written(answer) for answer in process_line(line, method="accuracy")["gt"]]
    # One at a time: an answer that looks like a list is one already.
    found = [process_line({"answer": answer, "prediction": reply}, method="exact") for answer in answers]
    match = [one["match"] == [True] and numbers(answer) == numbers(reply) for one, answer in zip(found, answers, strict=True)]
    return {"gt": [one["gt"][0] for one in found], "pred": found[0]["pred"] if found else reply, "match": match}


def numbers(text: str) -> list[float]:
    """The numbers in a text, in order, with their signs; digits are grouped by commas in threes."""
    found: list[float] = []
    sign = 1.0
    for match in _NUMBER.findall(text):
        if match in ("-", "+"):
            sign = -1.0 if match == "-" else 1.0
            continue
        found.append(sign * float(match.replace(",", "")))
        sign = 1.0
    return found


def _written(text: str) -> str:
    """One minus sign, and no full stop at the end."""
    return str(text).replace(_MINUS, "-").strip().removesuffix(".")

"""Which choice a generated reply means, by rule and never by guess (docs/spec/iit.md#scoring): the rules of VLMEvalKit's exact matching.

Where the choices were shown with letters, a letter is looked for first, then the text of a choice. Two differences, in favour of the model:
a reply that equals one choice's text is that choice, even where another choice's text occurs inside it; and a lone "Z" is a letter like any
other, not the mark of a judge that found no answer.

`iit-bench export` copies this file to the tasks it writes for lm-eval: it must run where iit-bench is not installed.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iit_bench.types import Style

_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # a letter counts only among the last words of a reply: "A" early in a sentence is an article
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def extract_choice(reply: str, choices: Sequence[str], style: Style) -> int:
    """Index of the choice that `reply` means, or -1 where it means none or more than one."""
    if any(refusal in reply for refusal in _REFUSALS):
        return -1
    if style == "letters":
        letter = _letter(reply, len(choices))
        if letter >= 0:
            return letter
    return _choice_text(reply, choices)


def _letter(reply: str, count: int) -> int:
    words = reply.translate(_PUNCTUATION).split()
    letters = [i for i, letter in enumerate(string.ascii_uppercase[:count]) if letter in words]
    if len(letters) != 1:
        return -1
    position = words.index(string.ascii_uppercase[letters[0]])
    return letters[0] if position >= len(words) - _LAST_WORDS else -1


def _choice_text(reply: str, choices: Sequence[str]) -> int:
    text = reply.strip().rstrip(".!").casefold()
    equal = [i for i, choice in enumerate(choices) if choice.strip().rstrip(".!").casefold() == text]
    if len(equal) == 1:
        return equal[0]
    lowered = reply.lower()
    if len(lowered) > 2 * sum(len(choice) for choice in choices):  # a long reply mentions a choice without meaning it
        return -1
    inside = [i for i, choice in enumerate(choices) if choice.lower() in lowered]
    return inside[0] if len(inside) == 1 else -1

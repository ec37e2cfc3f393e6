"""Reading a choice out of a reply, against VLMEvalKit's own exact matching and by examples."""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from evaluators.iit.extraction import extract_choice
from iit_bench.asking import LETTERS

WORDS = (
    "The",
    "answer",
    "is",
    "a",
    "I",
    "think",
    "it",
    "option",
    "so",
    "not",
    "because",
    "of",
    "the",
    "image",
    "which",
    "shows",
    "probably",
)
CHOICES = (
    ("yes", "no"),
    ("red", "blue", "dark red", "green"),
    ("Lima", "Quito", "La Paz", "Bogotá"),
    ("12", "120", "21", "2"),
    ("a circle", "a square", "circle"),
    ("A", "B", "None of these."),
    ("東京", "京都", "大阪", "名古屋"),
    ("it depends on the weather", "nothing at all", "both", "neither", "the first", "the second"),
)
REFUSALS = ("Sorry, I can't help with images of people yet.", "Cannot determine the answer")
FRAMES = ("{}", "({})", "**{}**", "{}.", "{}:", "{})", '"{}"', "[{}]", "{}!", "{},", "{{{}}}")


@pytest.fixture(scope="module")
def matching() -> Iterator[ModuleType]:
    """`vlmeval.utils.matching_util`, without running the package's `__init__` files: they load every model and turn TLS checks off."""
    found = importlib.util.find_spec("vlmeval")
    if found is None or found.origin is None:
        pytest.skip("VLMEvalKit (ms-vlmeval) is not installed")
    root = Path(found.origin).parent
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "vlmeval"}
    for name in before:
        del sys.modules[name]
    for name in ("vlmeval", "vlmeval.smp", "vlmeval.utils"):
        shell = ModuleType(name)
        shell.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = shell
    yield importlib.import_module("vlmeval.utils.matching_util")
    for name in [name for name in sys.modules if name.split(".")[0] == "vlmeval"]:
        del sys.modules[name]
    sys.modules.update(before)


def made_up_reply(draw: random.Random, choices: tuple[str, ...]) -> str:
    pieces = []
    for _ in range(draw.choice((1, 1, 2, 3, 5, 9))):
        kind = draw.random()
        if kind < 0.35:
            piece = draw.choice(WORDS)
        elif kind < 0.65:
            piece = draw.choice(FRAMES).format(draw.choice(LETTERS[: len(choices) + 1]))
        else:
            text = draw.choice(choices)
            piece = draw.choice(FRAMES).format(draw.choice((text, text.upper(), text.capitalize())))
        pieces.append(piece)
    if draw.random() < 0.02:
        pieces.append(draw.choice(REFUSALS))
    return draw.choice(("", " ", "\n")) + draw.choice((" ", " ", "\n")).join(pieces)


def peer_choice(matching: ModuleType, reply: str, choices: tuple[str, ...], style: str) -> int:
    options = dict(zip(LETTERS, choices, strict=False))
    if style == "letters":
        found = matching.can_infer(reply, dict(options))
    else:  # no letters were shown: only its second step, and its list of refusals
        found = matching.can_infer_option(reply, {}) or matching.can_infer_text(reply, dict(options))
    return LETTERS.index(found) if found and found in options else -1


def equals_one_choice(reply: str, choices: tuple[str, ...]) -> int:
    def plain(text: str) -> str:
        return text.strip().rstrip(".!").casefold()

    equal = [i for i, choice in enumerate(choices) if plain(choice) == plain(reply)]
    return equal[0] if len(equal) == 1 else -1


@pytest.mark.parametrize("style", ["letters", "cloze", "options"])
def test_replies_mean_what_vlmevalkit_takes_them_for(matching, style):
    draw = random.Random(style)
    found, exact = [], 0
    for _ in range(6000):
        choices = draw.choice(CHOICES)
        reply = made_up_reply(draw, choices)
        ours, theirs = extract_choice(reply, choices, style), peer_choice(matching, reply, choices, style)
        found.append(ours)
        if ours != theirs:  # the one difference that these replies can meet
            assert (theirs, ours) == (-1, equals_one_choice(reply, choices)), reply
            exact += 1
    assert 0 < exact < 600
    assert 1500 < sum(choice >= 0 for choice in found) < 5500  # both kinds were met


@pytest.mark.parametrize(
    ("reply", "style", "expected"),
    [
        ("B", "letters", 1),
        ("The answer is (C).", "letters", 2),
        ("A shape, so B", "letters", -1),  # two letters
        ("A thing that I would call by no name", "letters", -1),  # an article, far from the end
        ("dark red", "letters", 2),
        ("dark red", "cloze", 2),  # although "red" is inside it
        ("It is dark red", "cloze", -1),  # two choices are inside
        ("It is Green.", "options", 3),
        ("B", "cloze", -1),  # no letters were shown
        ("", "cloze", -1),
        ("green " * 30, "cloze", -1),  # long: mentions it without meaning it
        ("I can't process this file. green", "options", -1),
        ("Z", "letters", -1),
    ],
)
def test_reply_means(reply, style, expected):
    assert extract_choice(reply, ("red", "blue", "dark red", "green"), style) == expected

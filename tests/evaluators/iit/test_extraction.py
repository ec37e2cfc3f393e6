"""Reading a choice out of a reply: what 400 replies mean by hand, VLMEvalKit's own exact matching, and wordings of any choice."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.iit import extraction
from evaluators.iit.extraction import extract_choice, read_reply
from iit_bench.asking import LETTERS

BY_HAND = yaml.safe_load(Path(__file__).with_name("replies_by_hand.yaml").read_text(encoding="utf-8"))
ROWS = [
    (reply, tuple(block["choices"]), block["style"], group["means"])
    for block in BY_HAND
    for group in block["replies"]
    for reply in group["said"]
]

# Replies where VLMEvalKit's rule gives another choice than the reader by hand, by reason.
DIFFERENCES = {
    "denied": (
        *("Not B", "not (B)", "B is wrong.", "B is not correct", "The answer is not B", "I do not think the answer is B."),
        *("not green", "It isn't green", "It is anything other than green", "not a cat", "不是巴黎", "不是猫"),
        *("Anything but B", "All but B.", "Everything but (B)", "Any option but B", "Any of them save B", "All the cities but Paris"),
        *("Everything except B.", "All except for B", "Apart from B", "any city besides Paris", "Anything other than B"),
        *("The answer is anything but B.", "The answer is all but Paris", "Answer: all but (B)", "答案：除 B 外"),
        *("除了 B", "除 B 之外", "排除 B", "不是 B"),
    ),
    "asked": ("是不是猫？",),
    "a word or a name that is one letter long": ("A cat", "A cat.", "A city", "A bird", "Answer: A bird", "Answer: A cat", "f(B) = 3"),
    "a letter inside a choice's text": ("Vitamin C", "This is vitamin C.", "Answer: Vitamin B"),
    "the letter is declared, another choice only explained": (
        "Answer: B. The left atrium is on the other side.",
        "B. The left atrium is on the other side.",
    ),
    "inside a word": ("Parisian", "Unknown", "unknown.", "Nothing", "redder", "evergreen", "infrared", "green-eyed", "males"),
    "no answer though the word occurs": ("No idea",),
    "inside a number": (
        *("15", "2012", "5.5", "0.5", ".5", "5/8", "5:30", "5^2", "1,205", "12,000", "5kg", "B12"),
        *("1200", "−5"),  # the number itself, in another spelling
    ),
}


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


def peer_choice(matching: ModuleType, reply: str, choices: tuple[str, ...], style: str) -> int:
    options = dict(zip(LETTERS, choices, strict=False))
    if style == "letters":
        found = matching.can_infer(reply, dict(options))
    else:  # no letters were shown: only its second step, and its list of refusals
        found = matching.can_infer_option(reply, {}) or matching.can_infer_text(reply, dict(options))
    return LETTERS.index(found) if found and found in options else -1


@pytest.mark.parametrize(("reply", "choices", "style", "expected"), ROWS)
def test_reply_means_what_a_reader_takes_it_for(reply, choices, style, expected):
    assert extract_choice(reply, choices, style) == expected


@pytest.mark.oracle
def test_replies_that_vlmevalkit_reads_mean_the_same_here_but_for_listed_ones(matching):
    listed = {reply for replies in DIFFERENCES.values() for reply in replies}
    differing, equal = set(), 0
    for reply, choices, style, expected in ROWS:
        theirs = peer_choice(matching, reply, choices, style)
        if theirs >= 0 and theirs != expected:
            differing.add(reply)
        equal += theirs == expected >= 0
    assert differing == listed
    assert equal >= 150


def test_evidence_tells_declared_answers_from_mere_mentions():
    cities = ("London", "Paris", "Rome", "Berlin")
    evidence = {
        "Answer: B": "declared_letter",
        "The answer is Paris": "declared_text",
        "B. Because of the tower": "letter",
        "Paris.": "text",
        "The tower stands in Paris": "mention",
        "Paris or Rome": "several",
        "I can't process this file.": "refusal",
        "A tower": "nothing",
    }
    assert {reply: read_reply(reply, cities, "letters").evidence for reply in evidence} == evidence


# ---------------------------------------------------------------- any choices

WORDS = st.one_of(
    st.text("bcdfgklmnprstuw", min_size=3, max_size=8),
    st.text("bcdfgklmn ", min_size=5, max_size=12).map(lambda text: " ".join(text.split())).filter(lambda text: len(text) > 3),
    st.text("абвгдежз", min_size=3, max_size=8),
    st.text("山川水火木金土日月東西南北", min_size=2, max_size=4),
    st.integers(100, 999).map(str),
    st.decimals(0, 99, places=2).map(str),
)
CHOICES = st.lists(WORDS, min_size=2, max_size=8, unique=True).filter(
    lambda words: not any(one != other and one in other for one in words for other in words)
)
DECLARING = (
    "Answer: {}",
    "answer:{}",
    "**Answer:** {}",
    "The answer is {}.",
    "The answer is: {}",
    "答案：{}",
    "答案是{}。",
    "正确答案为{}",
)
ENCLOSING = (
    "{}",
    "{}.",
    "{}。",
    "**{}**",
    "*{}*",
    "({})",
    "（{}）",
    '"{}"',
    "`{}`",
    r"\boxed{{{}}}",
    "$\\boxed{{{}}}$",
    " {}\n",
    "<answer>{}</answer>",
)
LABELLING = (
    "{0}. {1}",
    "({0}) {1}",
    "{0}) {1}",
    "{0}: {1}",
    "**{0}.** {1}",
    "Answer: {0}. {1}",
    "{0}\n\nBecause it is {1}.",
    "答案：{0}。{1}",
)


@given(CHOICES, st.data(), st.sampled_from(["letters", "options", "cloze"]))
@settings(deadline=None, max_examples=150)
def test_every_choice_is_read_back_from_every_wording(choices, data, style):
    index = data.draw(st.integers(0, len(choices) - 1))
    said = [wording.format(choices[index]) for wording in (*DECLARING, *ENCLOSING)]
    if style == "letters":
        letter = LETTERS[index]
        said += [wording.format(letter) for wording in (*DECLARING, *ENCLOSING)]
        said += [wording.format(letter.lower()) for wording in (*DECLARING, *ENCLOSING)]
        said += [wording.format(letter, choices[index]) for wording in LABELLING]
    assert {reply: extract_choice(reply, choices, style) for reply in said} == dict.fromkeys(said, index)


@given(CHOICES, st.data())
@settings(deadline=None, max_examples=100)
def test_two_choices_in_one_breath_and_denied_ones_are_never_read(choices, data):
    one, other = data.draw(st.permutations(range(len(choices))))[:2]
    for joined in ("{} or {}", "{}, {}", "{} and {}", "{}和{}", "Answer: {} or {}", "答案：{}、{}", "The answer is either {} or {}."):
        assert extract_choice(joined.format(choices[one], choices[other]), choices, "options") == -1
        assert extract_choice(joined.format(LETTERS[one], LETTERS[other]), choices, "letters") == -1
    for denied in ("Not {}", "It is not {}.", "The answer is not {}", "{} is wrong", "不是{}", "答案不是{}"):
        assert extract_choice(denied.format(choices[one]), choices, "options") == -1
        assert extract_choice(denied.format(LETTERS[one]), choices, "letters") == -1


@given(st.text(max_size=60), st.lists(st.text(max_size=8), min_size=1, max_size=9), st.sampled_from(["letters", "options", "cloze"]))
@settings(deadline=None, max_examples=300)
def test_any_reply_is_read_as_one_choice_or_none(reply, choices, style):
    reading = read_reply(reply, choices, style)
    assert -1 <= reading.choice < len(choices)
    assert (reading.choice == -1) == (reading.evidence in ("several", "refusal", "nothing"))


def test_the_file_runs_where_nothing_of_this_project_is_installed():
    alone = runpy.run_path(str(extraction.__file__))["extract_choice"]
    assert alone("Answer: B. Paris", ("London", "Paris"), "letters") == 1
    imported = {line.split()[1] for line in Path(extraction.__file__).read_text().splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names | {"__future__", "collections.abc"}

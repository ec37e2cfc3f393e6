"""Reported faults of the IIT suite's reading of replies: one test per fault, each with the right value."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from evaluators.iit.evaluate import evaluate_model
from evaluators.iit.extraction import extract_choice, read_reply
from evaluators.runs.options import RunOptions
from iit_bench.asking import LETTERS
from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run
from iit_bench.types import Question

YES_NO = ("yes", "no")
ATRIA = ("left atrium", "right atrium", "left ventricle", "right ventricle")
CITIES = ("London", "Paris", "Rome", "Berlin")


def read(replies: Sequence[str], choices: Sequence[str], style: str) -> dict[str, int]:
    return {reply: extract_choice(reply, choices, style) for reply in replies}


def test_no_is_not_read_out_of_unknown_cannot_or_snow():
    """A yes/no question took "no" out of words that contain it; right: no answer."""
    replies = ("Unknown", "I cannot tell", "It is snow", "not", "Nothing", "It is now noon")
    assert read(replies, YES_NO, "cloze") == dict.fromkeys(replies, -1)


def test_a_number_is_not_read_out_of_another_number():
    """12 was read out of 2012 and 5 out of 15; right: a number is read whole, with sign, decimals and thousands."""
    replies = ("2012", "15", "5.5", "-5", "1,205", "0.12", "12,000", "5/12", "1 000", "12\N{NO-BREAK SPACE}000", "5\N{THIN SPACE}205")
    assert read(replies, ("12", "5", "1"), "cloze") == dict.fromkeys(replies, -1)
    right = {"12": 0, "5.": 1, "1,200": 2, "1 200": 2, "−5": 3}
    assert read(tuple(right), ("12", "5", "1200", "-5"), "cloze") == right


def test_paris_is_not_read_out_of_parisian():
    """Paris was read out of Parisian; right: no answer."""
    assert read(("Parisian", "a Parisian café"), CITIES, "cloze") == {"Parisian": -1, "a Parisian café": -1}


def test_a_long_reply_that_begins_with_yes_is_yes():
    """Long replies to a yes/no question were thrown away for their length; right: "Yes, the picture shows …" is yes."""
    long = ", the picture shows a large brown dog that is lying on a green sofa beside a lamp, a table and three chairs."
    assert read(("Yes" + long, "No" + long), YES_NO, "cloze") == {"Yes" + long: 0, "No" + long: 1}


def test_a_declared_letter_wins_over_choices_that_its_explanation_mentions():
    """ "Answer: B. The left atrium is on the other side." gave A, the left atrium; right: B."""
    assert extract_choice("Answer: B. The left atrium is on the other side.", ATRIA, "letters") == 1
    assert extract_choice("B. The left atrium is on the other side.", ATRIA, "letters") == 1
    assert extract_choice("The answer is right atrium, as the left atrium is on the other side.", ATRIA, "cloze") == 1


@pytest.mark.parametrize("reply", ["B。", "答案：B", "（B）", "选B", "b", "(b)", "$B$", r"\boxed{B}", "B\n\nExplanation: A is in England."])
def test_letters_in_other_forms_are_recognised(reply):
    """Full-width, lower-case, LaTeX and explained letters were unparsed; right: B."""
    assert extract_choice(reply, CITIES, "letters") == 1


def test_an_article_is_no_letter():
    """ "A cat" gave A; right: the choice that says cat, or none."""
    assert extract_choice("A cat", ("A dog", "A cat"), "letters") == 1
    assert extract_choice("A cat", ("red", "blue"), "letters") == -1


def test_a_denied_choice_is_not_read():
    """ "Not B" gave B; right: no answer, and nothing about the other choices."""
    replies = ("Not B", "B is wrong", "不是B", "The answer is not B")
    assert read(replies, CITIES, "letters") == dict.fromkeys(replies, -1)
    assert read(("not a cat",), ("a dog", "a cat"), "cloze") == {"not a cat": -1}


def test_all_but_a_choice_is_not_that_choice():
    """ "Anything but B" gave B, as did 除 B 外 and 不是 B with spaces; right: no answer. But "none other than Paris" is Paris."""
    replies = ("Anything but B", "All but Paris", "Any option but (B)", "The answer is everything except B", "除了 B", "除B外", "不是 B")
    assert read(replies, CITIES, "letters") == dict.fromkeys(replies, -1)
    replies = ("None other than Paris.", "It is nothing but B", "All but certainly B", "不是A而是B")
    assert read(replies, CITIES, "letters") == dict.fromkeys(replies, 1)


def test_female_is_read_beside_male():
    """ "She is female" never matched beside "male", which it contains; right: female."""
    assert extract_choice("She is female", ("male", "female"), "cloze") == 1


def test_several_choices_without_a_declared_one_are_unparsed():
    """Of several named choices none is guessed."""
    for reply in ("A or B", "Paris or Rome", "It could be (A) or (C)", "A. London\nB. Paris\nC. Rome\nD. Berlin"):
        assert read_reply(reply, CITIES, "letters") == (-1, "several"), reply


class Talker(Model):
    """Declares the gold answer in one of several wordings, or names it without meaning it."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.info = dataclasses.replace(load_model("random", ModelOptions()).info, name="talker")
        self.capabilities = Capabilities(scores=False, why_not=dict.fromkeys(("scores", "takes_raw_text"), "it talks"))
        self.gold = {question.question.strip(): question for question in questions}
        self.wordings = itertools.cycle(("答案：{0}", "**Answer:** {0}. It is not {1}.", "{0}。", "({2})", "Not {0}"))

    def request_tokens(self, request: Any) -> int:
        return 1

    def score(self, batch: Any) -> Any:
        raise NotImplementedError

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [GenerateResult(self._reply(request.messages[-1].text), 1, 1) for request in batch]

    def _reply(self, text: str) -> str:
        question = next(question for asked, question in self.gold.items() if asked in text)
        letter, other = (LETTERS[(question.answer + i) % len(question.choices)] for i in (0, 1))
        return next(self.wordings).format(letter, other, letter.lower())


def test_a_runs_outcomes_and_evidence_follow_the_rule(bench, tmp_path):
    """Replies of a whole run were unparsed or wrong for their form; right: declared letters in any form, and denied ones never."""
    texts = [question for question in bench.questions.values() if question.modality == "T"]
    options = RunOptions(model="talker", bench=bench.path, out=tmp_path / "run", tiers=("T",), scoring="generate", style="letters")
    evaluate_model(Talker(texts), bench, options, progress=False)
    predictions = load_run(tmp_path / "run").predictions
    by_form = {"答": ("correct", "declared_letter"), "*": ("correct", "declared_letter"), "N": ("unparsed", "nothing")}
    assert {p.reply[0] for p in predictions} >= by_form.keys()
    for p in predictions:
        assert (p.outcome, p.evidence) == by_form.get(p.reply[0], ("correct", "letter")), p.reply

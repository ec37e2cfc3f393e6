"""Handwritten digits: scikit-learn's scans as pictures, split by scan, in pairs that no question crosses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from builders.baselines import Baselines
from builders.sources.base import SourceOptions, load_source
from iit_bench import asking
from iit_bench.data import digits
from iit_bench.images import decode

SPLITS: tuple[digits.Split, ...] = ("train", "dev", "test")


def numbers(question) -> list[int]:
    return [int(number) for number in question.id.rpartition("/")[2].split("-")]


@pytest.mark.oracle
def test_a_scan_is_enlarged_as_torch_does() -> None:
    ink = load_digits().images
    for number in (0, 7, 1796):
        wanted = torch.nn.functional.interpolate(torch.from_numpy(ink[number])[None, None], size=64, mode="bilinear", align_corners=False)
        got = np.asarray(decode(digits.image(number).data)).astype(float)
        assert got.shape == (64, 64, 3)
        np.testing.assert_allclose(got[..., 0], 255 - wanted[0, 0].numpy() * 255 / 16, atol=0.51)


def test_every_scan_is_in_one_split() -> None:
    of_split = {split: {scan.number for scan in digits.scans(split)} for split in SPLITS}
    assert sorted(number for some in of_split.values() for number in some) == list(range(1797))
    assert {split: len(some) for split, some in of_split.items()} == {"train": 1097, "dev": 300, "test": 400}


def test_no_scan_is_in_two_clusters() -> None:
    clusters: dict[int, set[str]] = {}
    for question in digits.build("test").questions:
        for number in numbers(question):
            clusters.setdefault(number, set()).add(question.cluster)
    assert len(clusters) == 400 and all(len(some) == 1 for some in clusters.values())


@pytest.mark.parametrize("split", SPLITS)
def test_answers_follow_from_the_labels(split: digits.Split) -> None:
    target = load_digits().target
    for question in digits.build(split).questions:
        shown = [int(target[number]) for number in numbers(question)]
        assert [image.sha256 for image in question.images] == [digits.image(number).sha256 for number in numbers(question)]
        wanted = {
            "digit": str(shown[0]),
            "odd or even": "odd" if shown[0] in (1, 3, 5, 7, 9) else "even",
            "sum": str(sum(shown)),
            "larger": "first" if shown[0] > shown[-1] else "second",
        }[question.subject]
        assert question.choices[question.answer] == question.answer_text == wanted


def test_a_question_about_two_scans_has_both_pictures_in_one_turn() -> None:
    question = next(question for question in digits.build("test").questions if question.subject == "sum")
    assert len(asking.user_message(question, "cloze").images) == 2


def test_equal_digits_are_counted() -> None:
    equal = sum(first.digit == second.digit for first, second in digits.pairs("test"))
    assert digits.build("test").left_out == {"equal digits, none is larger": equal} and equal > 0


def test_no_choice_begins_with_another() -> None:
    for question in digits.build("test").questions:
        assert not any(a != b and a.startswith(b) for a in question.choices for b in question.choices)


def test_the_question_says_little_of_the_answer() -> None:
    source = load_source("digits", SourceOptions())
    assert source.train_answers is not None
    figures = Baselines({"digits": source.train_answers}, {"digits": ()}).figures(source.questions)
    assert figures["random"] == pytest.approx(0.32, abs=0.01)
    assert figures["question_prior"] is not None and figures["question_prior"] < figures["random"] + 0.05


def test_wrong_sums_are_as_frequent_as_right_ones() -> None:
    asked = [question for split in SPLITS for question in digits.build(split).questions if question.subject == "sum"]
    nine = sum(question.answer_text == "9" for question in asked)
    offered = sum("9" in question.choices for question in asked)
    assert nine / offered == pytest.approx(0.25, abs=0.08)

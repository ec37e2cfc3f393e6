from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from builders.baselines import Baselines, ChoicesOnly, majority, question_prior
from builders.sources.base import AnswerCounts, SourceOptions, load_source
from iit_bench.data import easyvqa
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Question

Make = Callable[..., Question]


@pytest.mark.slow
def test_question_prior_on_all_of_easyvqa_is_the_known_figure() -> None:
    """Fitted on the train split 66.9% of the official test split; the 67.8% that are often quoted need the test split's own answers."""
    source = load_source("easyvqa", SourceOptions())
    assert source.train_answers is not None
    assert len(source.questions) == 9673
    test = AnswerCounts.of((q.question, q.answer_text) for q in source.questions)
    for fitted_on, splits, expected in ((source.train_answers, ("train", "dev"), 0.669), (test, ("test",), 0.678)):
        by_hand: dict[str, Counter[str]] = defaultdict(Counter)
        for split in splits:
            for row in easyvqa.rows(split):  # type: ignore[arg-type]
                by_hand[row.question][row.answer] += 1
        right = sum(max(row.choices, key=by_hand[row.question].__getitem__) == row.answer for row in easyvqa.rows("test"))
        figures = Baselines({"easyvqa": fitted_on}, {"easyvqa": ()}).figures(source.questions)
        assert figures["question_prior"] == pytest.approx(right / 9673, abs=1e-6)
        assert figures["question_prior"] == pytest.approx(expected, abs=5e-4)


def test_majority_takes_the_most_frequent_answer_and_the_first_of_a_tie(question: Make) -> None:
    counts = {"green": 5, "blue": 5, "red": 1}
    assert majority(counts, question(choices=("red", "green", "blue"))) == 1
    assert majority({}, question(choices=("red", "green"))) == 0


def test_question_prior_knows_strings_and_falls_back_to_the_majority(question: Make) -> None:
    counts = AnswerCounts.of([("What colour?", "red"), ("what  COLOUR?", "red"), ("What colour?", "blue"), ("What shape?", "blue")])
    assert question_prior(counts, counts.overall, question(question="What colour?", choices=("blue", "red"))) == 1
    overall = {"green": 3, "blue": 2}
    assert question_prior(counts, overall, question(question="Unseen?", choices=("blue", "green"))) == 1
    assert question_prior(counts, overall, question(question="What shape?", choices=("red", "green"))) == 1


def test_choices_only_finds_a_give_away_in_the_choices(question: Make) -> None:
    seen = [question(f"q/{i}", choices=(f"bad {i}", f"bad {i + 100}", f"surely good {i}"), answer=2) for i in range(30)]
    rule = ChoicesOnly(AnswerCounts.of((q.question, q.answer_text) for q in seen), seen)
    fresh = [question(f"r/{i}", choices=(f"bad {i + 900}", f"surely good {i + 500}", f"bad {i + 700}"), answer=1) for i in range(30)]
    assert all(rule(q) == q.answer for q in fresh)


def test_figures_by_hand(question: Make) -> None:
    targets = [
        question("1", choices=("red", "blue"), answer=0),
        question("2", choices=("blue", "red", "green", "teal"), answer=1),
        question("3", question="Shape?", choices=("square", "circle"), answer=1),
    ]
    train = AnswerCounts.of([("Shape?", "circle"), ("x", "blue"), ("y", "blue"), ("z", "red")])
    figures = Baselines({"made": train}, {"made": ()}).figures(targets)
    assert figures == {
        "n": 3,
        "random": round((1 / 2 + 1 / 4 + 1 / 2) / 3, 6),
        "always_first": round(1 / 3, 6),
        "majority": round(1 / 3, 6),  # blue, blue, circle
        "choices_only": None,
        "question_prior": round(1 / 3, 6),
    }


@pytest.mark.slow
def test_the_manifest_counts_only_texts_that_are_choices(small_lab: Benchmark) -> None:
    counts = small_lab.manifest["answer_counts"]
    shown = {choice for q in small_lab.questions.values() for choice in q.choices}
    assert set(counts) <= shown
    assert all(count > 0 for count in counts.values())
    train = Counter(row.answer for split in ("train", "dev") for row in easyvqa.rows(split))  # type: ignore[arg-type]
    assert counts["yes"] == train["yes"]
    assert sum(train.values()) == 38_575


@pytest.mark.slow
def test_the_manifests_majority_is_what_its_counts_give(small_lab: Benchmark) -> None:
    targets = [small_lab.questions[name] for name in {dialogue.target for dialogue in small_lab.dialogues}]
    counts = small_lab.manifest["answer_counts"]
    for modality in "TV":
        group = [target for target in targets if target.modality == modality]
        right = sum(majority(counts, target) == target.answer for target in group)
        assert small_lab.manifest["baselines"][modality]["majority"] == pytest.approx(right / len(group), abs=1e-6)

"""Accuracy that needs no understanding (docs/spec/iit.md#building-6-baselines).

Each rule here picks a choice without looking at an image or a meaning.

- random: mean 1/k, the expectation of a uniform guess.
- always first: the first choice.
- majority: the choice that is the gold answer most often, over all sources.
- question prior: the choice that is most often the gold answer of the same question string; the majority if the string is new.
- choices only: naive Bayes over the choices' texts and relative lengths, the question hidden.

Answer counts come from a source's train split if it has one, else from its evaluation questions that are not in the benchmark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from builders.sources.base import AnswerCounts, question_key
from builders.words import words
from iit_bench.types import Question

Figures = dict[str, float | int | None]


def first_of_highest(scores: Sequence[float]) -> int:
    """Index of the highest score; the first of a tie."""
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def majority(counts: Mapping[str, int], question: Question) -> int:
    """Index of the choice with the highest count as a gold answer; the first of a tie."""
    return first_of_highest([counts.get(choice, 0) for choice in question.choices])


def question_prior(counts: AnswerCounts, overall: Mapping[str, int], question: Question) -> int:
    """Index of the choice most often right for this question string; `overall` decides if the string is new."""
    same_string = counts.by_question.get(question_key(question.question), {})
    if not any(choice in same_string for choice in question.choices):
        return majority(overall, question)
    return majority(same_string, question)


class ChoicesOnly:
    """Naive Bayes with add-one smoothing over the words, whole text and relative length of a choice; the question is hidden.

    Gold texts are counted from the source's answer counts, wrong texts and all lengths from its questions outside the benchmark. A choice's
    score is the sum over its features of log(P(feature | gold) / P(feature | wrong)).
    """

    def __init__(self, counts: AnswerCounts, questions: Iterable[Question]) -> None:
        self._gold: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        for answer, count in counts.overall.items():
            self._gold.update(dict.fromkeys(_text_features(answer), count))
        for question in questions:
            for i, choice in enumerate(question.choices):
                if i == question.answer:
                    self._gold[_length_feature(question, i)] += 1
                else:
                    self._wrong.update([*_text_features(choice), _length_feature(question, i)])
        vocabulary = len(self._gold | self._wrong)
        self._log_scale = math.log((self._wrong.total() + vocabulary) / (self._gold.total() + vocabulary))

    def __call__(self, question: Question) -> int:
        return first_of_highest([self._score(question, i) for i in range(len(question.choices))])

    def _score(self, question: Question, i: int) -> float:
        features = [*_text_features(question.choices[i]), _length_feature(question, i)]
        return math.fsum(math.log((self._gold[f] + 1) / (self._wrong[f] + 1)) + self._log_scale for f in features)


def _text_features(choice: str) -> list[str]:
    return ["text " + choice.casefold(), *("word " + word for word in sorted(set(words(choice))))]


def _length_feature(question: Question, i: int) -> str:
    lengths = [len(choice) for choice in question.choices]
    return "length " + ("longest" if lengths[i] == max(lengths) else "shortest" if lengths[i] == min(lengths) else "between")


class Baselines:
    """All rules, fitted for one benchmark.

    Args:
        train: source -> counts of its train split, or of its questions outside the benchmark.
        unused: source -> its evaluation questions outside the benchmark.
    """

    def __init__(self, train: Mapping[str, AnswerCounts], unused: Mapping[str, Sequence[Question]]) -> None:
        self._train = train
        self._overall: Counter[str] = Counter()
        for counts in train.values():
            self._overall.update(counts.overall)
        self._choices_only = {source: ChoicesOnly(train[source], questions) if questions else None for source, questions in unused.items()}

    def answer_counts(self, questions: Iterable[Question]) -> dict[str, int]:
        """How often each choice of `questions` is a gold answer, without zeros: the counts that `majority` predicts from."""
        choices = {choice for question in questions for choice in question.choices if choice in self._overall}
        return {choice: self._overall[choice] for choice in sorted(choices) if self._overall[choice]}

    def figures(self, targets: Sequence[Question]) -> Figures:
        """Accuracy of each rule on `targets`; None for a rule that could not be fitted for one of their sources."""
        choices_only_fitted = all(self._choices_only.get(target.source) for target in targets)
        return {
            "n": len(targets),
            "random": _mean(1 / len(target.choices) for target in targets),
            "always_first": _accuracy(targets, lambda target: 0),
            "majority": _accuracy(targets, lambda target: majority(self._overall, target)) if self._overall else None,
            "choices_only": _accuracy(targets, self._choices_only_pick) if choices_only_fitted else None,
            "question_prior": _accuracy(targets, self._question_prior_pick) if self._overall else None,
        }

    def _choices_only_pick(self, target: Question) -> int:
        rule = self._choices_only[target.source]
        assert rule is not None  # checked by `figures`
        return rule(target)

    def _question_prior_pick(self, target: Question) -> int:
        return question_prior(self._train[target.source], self._overall, target)


def _accuracy(targets: Sequence[Question], pick: Callable[[Question], int]) -> float:
    return _mean(float(pick(target) == target.answer) for target in targets)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return round(math.fsum(listed) / len(listed), 6)

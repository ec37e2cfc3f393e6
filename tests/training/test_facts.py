"""The facts: what is taught and what is asked never meet, and the choices keep the rules."""

from __future__ import annotations

from collections import Counter

import pytest

from iit_bench.data import facts


def test_every_fact_is_taught_and_every_wording_seen() -> None:
    taught = facts.pairs("taught")
    assert {pair.fact.id for pair in taught} == {fact.id for fact in facts.facts() if not fact.also}
    assert {(pair.fact.relation, pair.wording) for pair in taught} == {
        (r, i) for r, some in facts.WORDINGS.items() for i in range(len(some))
    }


def test_evaluated_pairs_are_never_taught() -> None:
    sets = {split: {(pair.fact.id, pair.question) for pair in facts.pairs(split)} for split in ("taught", "dev", "test")}
    assert not sets["taught"] & sets["dev"] and not sets["taught"] & sets["test"] and not sets["dev"] & sets["test"]
    everything = {(f.id, w.format(f.subject)) for f in facts.facts() if not f.also for w in facts.WORDINGS[f.relation]}
    assert sets["taught"] | sets["dev"] | sets["test"] == everything


def test_each_fact_is_asked_once_per_evaluation_split() -> None:
    for split in ("dev", "test"):
        assert set(Counter(pair.fact.id for pair in facts.pairs(split)).values()) == {1}


def test_choices_are_four_distinct_prefix_free_and_hold_the_answer() -> None:
    for question in facts.questions("test"):
        folded = [choice.casefold() for choice in question.choices]
        assert len(folded) == 4
        assert not any(a != b and folded[b].startswith(folded[a]) for a in range(4) for b in range(4))
        assert question.choices[question.answer] == question.answer_text


def test_wrong_choices_come_from_the_same_relation() -> None:
    answers: dict[str, set[str]] = {}
    for fact in facts.facts():
        answers.setdefault(fact.relation, set()).add(fact.answer)
    assert all(set(question.choices) <= answers[question.subject] for question in facts.questions("dev"))


def test_frequent_answers_are_as_frequent_among_the_wrong_choices() -> None:
    currency = [question for question in facts.questions("test") if question.subject == "currency"]
    wrong = Counter(choice for question in currency for choice in question.choices if choice != question.answer_text)
    gold = Counter(question.answer_text for question in currency)
    # Without this, "Euro" would be right whenever it is offered. It is a wrong choice at least as often as it is gold.
    assert all(wrong[answer] >= gold[answer] for answer in ("Dollar", "Euro", "Franc"))
    assert wrong["Euro"] > 10 * wrong["Yen"]


def test_what_is_left_out_is_counted() -> None:
    def fact(name: str, answer: str, also: tuple[str, ...] = ()) -> facts.Fact:
        return facts.Fact(id=f"capital/{name}", relation="capital", subject=name, answer=answer, also=also)

    few = [fact("A", "Rome"), fact("B", "Bern"), fact("C", "Berne"), fact("D", "Oslo"), fact("E", "Riga", ("Minsk",))]
    built = facts.build("test", few)
    # E has two answers. Of the others' answers, Bern and Berne cannot stand together, so B and C have Rome, Oslo and Riga, A and D too.
    assert built.left_out == {"several correct answers": 1}
    assert sorted(question.answer_text for question in built.questions) == ["Bern", "Berne", "Oslo", "Rome"]
    assert all(not {"Bern", "Berne"} <= set(question.choices) for question in built.questions)
    assert facts.build("test", few[:4]).left_out == {"too few choices": 4}


@pytest.mark.slow
@pytest.mark.parametrize("split", ["taught", "dev", "test"])
def test_questions_are_unique(split: facts.Split) -> None:
    questions = facts.questions(split)
    assert len({question.id for question in questions}) == len({question.question for question in questions}) == len(questions)


def test_no_question_says_its_answer() -> None:
    import re

    for question in facts.questions("test"):
        if len(question.answer_text) > 2:  # "In" is an English word and a symbol
            pattern = r"(?<!\w)" + re.escape(question.answer_text.casefold()) + r"(?!\w)"
            assert not re.search(pattern, question.question.casefold()), question

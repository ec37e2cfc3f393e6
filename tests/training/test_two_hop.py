"""Two-hop facts: answers follow from two rows of the table, and what must be put together is never taught so."""

from __future__ import annotations

import csv
import re
from collections import defaultdict

import pytest

from iit_bench.data import facts, two_hop

SPLITS: tuple[two_hop.Split, ...] = ("taught", "dev", "test")


def table() -> dict[str, dict[str, dict[str, str]]]:
    """relation -> entity -> row, read from the file by hand."""
    rows: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in csv.DictReader(facts.table_bytes().decode().splitlines()):
        rows[row["relation"]][row["id"].partition("/")[2]] = row
    return rows


def test_known_questions() -> None:
    asked = {pair.question: pair.asked.answer for split in SPLITS for pair in two_hop.pairs(split)}
    assert asked["What is the currency of the country whose capital is Tallinn?"] == "Euro"
    assert asked["What is the chemical symbol of the element with 8 protons?"] == "O"
    assert asked["Which city is the capital of the country that JP stands for in ISO 3166?"] == "Tokyo"


def test_answers_are_a_join_of_the_table() -> None:
    rows = table()
    for split in SPLITS:
        for pair in two_hop.pairs(split):
            asked, named_by = pair.kind
            named = [entity for entity, row in rows[named_by].items() if row["answer"] == pair.named_by.answer]
            assert named == [pair.entity]  # the name says which entity is meant
            assert pair.asked.answer == rows[asked][pair.entity]["answer"] and not rows[asked][pair.entity]["also"]


def test_what_must_be_put_together_is_never_taught() -> None:
    taught = {(pair.kind, pair.entity) for pair in two_hop.pairs("taught")}
    asked = [(pair.kind, pair.entity, pair.composed) for split in ("dev", "test") for pair in two_hop.pairs(split)]
    assert all(((kind, entity) in taught) != composed for kind, entity, composed in asked)
    assert not {kind for kind, _ in taught} & two_hop.NEVER_TAUGHT
    untaught = [(kind, composed) for kind, _, composed in asked if kind not in two_hop.NEVER_TAUGHT]
    composed = sum(composed for _, composed in untaught)
    assert composed / (len({(k, e) for k, e, _ in asked if k not in two_hop.NEVER_TAUGHT})) == pytest.approx(two_hop.COMPOSED, abs=0.04)


def test_no_evaluated_question_is_taught_and_every_wording_is() -> None:
    strings = {split: {pair.question for pair in two_hop.pairs(split)} for split in SPLITS}
    assert not strings["taught"] & strings["dev"] and not strings["taught"] & strings["test"] and not strings["dev"] & strings["test"]
    wordings = {(pair.kind, pair.wording) for pair in two_hop.pairs("taught")}
    assert wordings == {(kind, i) for kind, some in two_hop.WORDINGS.items() if kind not in two_hop.NEVER_TAUGHT for i in range(len(some))}


def test_both_facts_are_taught_by_themselves() -> None:
    taught = {pair.fact.id for pair in facts.pairs("taught")}
    assert all({pair.asked.id, pair.named_by.id} <= taught for split in SPLITS for pair in two_hop.pairs(split))


def test_choices_keep_the_rules() -> None:
    questions = two_hop.build("test").questions
    assert len({question.id for question in questions}) == len(questions) > 1000
    for question in questions:
        folded = [choice.casefold() for choice in question.choices]
        assert len(folded) == 4 and question.choices[question.answer] == question.answer_text
        assert not any(a != b and folded[b].startswith(folded[a]) for a in range(4) for b in range(4))
        if len(question.answer_text) > 2:  # "In" is an English word and a symbol
            assert not re.search(rf"(?<!\w){re.escape(question.answer_text.casefold())}(?!\w)", question.question.casefold())


def test_wrong_answers_are_taught_as_much_as_the_right_one() -> None:
    taught = {(pair.kind, pair.asked.answer) for pair in two_hop.pairs("taught")}
    kind = ("capital", "iso code")
    asked = [question for question in two_hop.build("test").questions if question.subject.startswith("capital by iso code")]
    for question in asked:
        heard = {(kind, choice) in taught for choice in question.choices}
        assert heard == {not question.subject.endswith("(untaught)")}


def test_left_out_is_counted() -> None:
    rows = table()
    left_out = 0
    for asked, named_by in two_hop.WORDINGS:
        both = rows[asked].keys() & rows[named_by].keys()
        answers = [row["answer"] for row in rows[named_by].values()]
        left_out += sum(
            bool(rows[asked][e]["also"] or rows[named_by][e]["also"]) or answers.count(rows[named_by][e]["answer"]) > 1 for e in both
        )
    assert sum(two_hop.build("dev").left_out.values()) == left_out > 0

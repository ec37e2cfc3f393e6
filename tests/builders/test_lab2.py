"""The preset `lab2`: every source of the lab, and dialogues with two images in one turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.baselines import Baselines
from builders.build import BuildOptions, build
from builders.sources.base import SourceOptions, load_source
from iit_bench.storage.benchmark import load_benchmark

SOURCES = ("facts", "two-hop", "easyvqa", "digits", "flags", "flag-facts")


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_where_it_is_from_and_has_a_train_split(name: str) -> None:
    source = load_source(name, SourceOptions())
    assert source.origin and source.licence and len(source.sha256) == 64 and source.train_answers
    assert {question.source for question in source.questions} == {name}
    assert len({question.id for question in source.questions}) == len(source.questions)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two-hop", "digits", "flags", "flag-facts"])
def test_the_question_and_what_was_taught_give_little_away(name: str) -> None:
    """Where a wrong choice is an answer that training heard less often, or more often, than the right one, counting answers is enough."""
    source = load_source(name, SourceOptions())
    assert source.train_answers is not None
    figures = Baselines({name: source.train_answers}, {name: ()}).figures(source.questions)
    for rule in ("question_prior", "majority"):
        assert figures[rule] == pytest.approx(figures["random"], abs=0.05)


@pytest.mark.slow
def test_lab2_has_every_source_its_prior_and_two_images_in_a_turn(tmp_path: Path) -> None:
    bench = load_benchmark(build(BuildOptions(out=tmp_path / "b", preset="lab2", tiers="T,V,VT", size=24)))
    assert tuple(bench.manifest["sources"]) == SOURCES
    for name in SOURCES:
        figures = bench.manifest["baselines"][name]
        assert figures["n"] == (12 if name in ("facts", "two-hop") else 6) and figures["question_prior"] is not None
    questions = bench.questions.values()
    two = [question for question in questions if len(question.images) == 2]
    assert two and all(question.subject in ("larger", "sum") for question in two)
    assert not any(question.prefix_choices for question in questions)  # so a cloze run leaves none out

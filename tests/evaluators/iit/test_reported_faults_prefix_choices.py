"""Questions one of whose choices begins another, in a run: one test per reported fault."""

from __future__ import annotations

import dataclasses

import pytest

from evaluators.runs.summary import left_out_text
from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark


def with_prefixes(bench: Benchmark, ids: list[str], k: int = 0) -> Benchmark:
    """The benchmark with other choices in some questions: 1, 10, 7, or k numbers."""
    texts = ("1", "10", "7") if not k else tuple(f"choice {i:02}" for i in range(k))
    changed = {
        one: dataclasses.replace(bench.questions[one], choices=texts, answer=1, answer_text=texts[1], prefix_choices=not k) for one in ids
    }
    return dataclasses.replace(bench, questions={**bench.questions, **changed})


@pytest.fixture
def prefixed(bench) -> Benchmark:
    """The first two groups' targets have the choices 1 and 10."""
    return with_prefixes(bench, list(dict.fromkeys(dialogue.group for dialogue in bench.dialogues))[:2])


@pytest.mark.parametrize("name", ["random", "majority"])
def test_a_cloze_run_leaves_the_groups_out_and_counts_them(run, prefixed, name):
    """The longer of 1 and 10 can never have the higher sum; right: its group is left out, counted, for every model alike."""
    model = load_model(name, ModelOptions())
    model.prepare(prefixed)
    found = run(model, prefixed, style="cloze")
    flagged = {one for one, question in prefixed.questions.items() if question.prefix_choices}
    groups = dict.fromkeys(dialogue.group for dialogue in prefixed.dialogues)
    assert {prediction.group for prediction in found.predictions} == set(groups) - flagged
    assert found.run["left_out"] == {"prefix_choices": 2}
    assert "2 groups" in left_out_text(found.run)
    limited = run(model, prefixed, style="cloze", limit=3, out="limited")
    assert {prediction.group for prediction in limited.predictions} == set(list(groups)[2:5])  # three whole groups still


def test_other_styles_ask_every_group(run, prefixed):
    """Letters can be told apart: nothing is left out."""
    found = run(load_model("random", ModelOptions()), prefixed, style="letters")
    assert {prediction.group for prediction in found.predictions} == {dialogue.group for dialogue in prefixed.dialogues}
    assert found.run["left_out"] == {}
    assert left_out_text(found.run) == ""


def test_nothing_left_to_ask_is_one_sentence(run, bench):
    """A cloze run over nothing but such questions names the reason and the way out."""
    every = with_prefixes(bench, [dialogue.group for dialogue in bench.dialogues])
    with pytest.raises(UserError, match=r"one choice begins with another, which style cloze cannot ask; use --style letters"):
        run(load_model("random", ModelOptions()), every, style="cloze")


def test_more_than_26_choices_in_letters_are_one_sentence(run, bench):
    """Style letters ended in an IndexError; right: a sentence before the model is asked anything, and other styles run."""
    many = with_prefixes(bench, [bench.dialogues[0].group], k=30)
    model = load_model("random", ModelOptions())
    with pytest.raises(UserError, match=r"has 30 choices, and style letters has 26 letters; use style options or cloze"):
        run(model, many, style="letters")
    assert run(model, many, style="options", limit=1).results.complete

"""What visual targets need: against code that imports nothing of the project, and against models whose needs are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evaluators import statistics
from evaluators.arms.evaluate import ask_arms
from evaluators.arms.needs import Answer, needs_of, ranked
from evaluators.iit.columns import Turns
from evaluators.iit.evaluate import evaluate, evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.storage.runs import load_run
from tests import recompute_arms
from tests.evaluators.arms.test_figures import Looks
from tests.recompute_figures import Check


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    from builders.build import BuildOptions, build
    from iit_bench.storage.benchmark import load_benchmark

    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("larger") / "bench", preset="lab", size=24, tiers="T,TV,VV,V")))


@pytest.mark.oracle
@pytest.mark.slow
def test_every_figure_equals_its_recomputation(larger, tmp_path):
    options = RunOptions(model="random", seed=5, bench=larger.path, out=tmp_path / "run", arms=("blind", "wordless"))
    evaluate(options, progress=False)
    run = load_run(options.out)
    found, own = needs_of(run, Turns.of_run(run)), recompute_arms.needs(options.out)
    assert found is not None
    check = Check()
    check.figure("blind", dataclasses.asdict(found.blind), own["blind"]["acc"])
    check.same("chance", found.chance, own["blind"]["chance"])
    check.figure("solvable blind", dataclasses.asdict(found.solvable_blind), own["blind"]["solvable"])
    check.figure("solvable wordless", dataclasses.asdict(found.solvable_wordless), own["wordless"]["solvable"])
    assert set(found.shares) == set(own["shares"])
    for need, share in found.shares.items():
        check.figure(need, dataclasses.asdict(share), own["shares"][need])
    assert check.off == [] and check.compared > 40
    assert sum(share.value for share in found.shares.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_a_model_that_only_looks_needs_the_image_and_no_words(larger, tmp_path):
    options = RunOptions(model="random", bench=larger.path, tiers=("V",), out=tmp_path / "run")
    model = Looks(larger)
    evaluate_model(model, larger, options, progress=False)
    ask_arms(model, larger, options, ["blind", "wordless"], progress=False)
    run = load_run(options.out)
    found = needs_of(run, Turns.of_run(run))
    assert found is not None and found.solvable_wordless.value == pytest.approx(1.0)
    asked = sorted((d for d in larger.dialogues if d.tier == "V"), key=lambda d: d.id)  # as answers are
    lucky = [(q := larger.questions[d.target]).answer == len(q.choices) - 1 for d in asked]
    assert found.blind.value == pytest.approx(np.mean(lucky))
    assert found.shares["either"].value == pytest.approx(np.mean(lucky))
    assert found.shares["image"].value == pytest.approx(1 - np.mean(lucky))
    assert [answer.need for answer in found.answers] == ["either" if luck else "image" for luck in lucky]


@pytest.mark.slow
def test_without_the_arms_there_is_nothing_and_with_one_only_what_it_says(larger, tmp_path):
    options = RunOptions(model="random", bench=larger.path, tiers=("V",), out=tmp_path / "run")
    evaluate(options, progress=False)
    run = load_run(options.out)
    assert needs_of(run, Turns.of_run(run)) is None
    evaluate(dataclasses.replace(options, arms=("blind",)), progress=False)
    found = needs_of(run, Turns.of_run(run))
    assert found is not None and found.blind.value is not None
    assert found.solvable_wordless.value is None and "arm wordless" in found.solvable_wordless.note
    assert (found.shares, found.answers) == ({}, ())


def test_items_are_ranked_by_what_they_need_least():
    def answer(question: str, right: bool, blind: bool, wordless: bool) -> Answer:
        return Answer(dialogue=f"V:{question}", question=question, right=right, blind=blind, wordless=wordless)

    one = [answer("words", True, True, False), answer("image", True, False, True), answer("both", True, False, False)]
    other = [answer("words", True, True, False), answer("image", False, False, True), answer("any", True, True, True)]
    items = ranked([one, other])
    assert [item.question for item in items] == ["words", "any", "both", "image"]
    assert [(item.n, item.right, item.blind, item.wordless) for item in items] == [(2, 2, 2, 0), (1, 1, 1, 1), (1, 1, 0, 0), (2, 1, 0, 2)]
    assert items[0].dialogues == ((0, "V:words"), (1, "V:words"))


@pytest.mark.slow
def test_the_share_that_is_known_without_the_image_is_recovered():
    """Models that know a share of the items and guess the rest: the interval covers the share that is known."""
    draw = np.random.default_rng(0)
    for known in (0.05, 0.3, 0.7):
        covered = []
        for _ in range(2000):
            clusters = np.arange(300) // 2  # two questions per picture, which a model knows or does not
            knows = (draw.random(150) < known)[clusters]
            choices = draw.choice([2, 3, 8], size=300)
            right = knows | (draw.random(300) < 1 / choices)
            acc = statistics.mean(right, clusters)
            share = statistics.chance_corrected(acc, float(np.mean(1 / choices)))
            assert share.low is not None and share.high is not None
            covered.append(share.low <= known <= share.high)
        assert 0.935 <= np.mean(covered) <= 0.975, known

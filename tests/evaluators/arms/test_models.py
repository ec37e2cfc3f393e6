"""Arms of real models: the same answers as runs that ask so from the start, and images that go through the tower once."""

from __future__ import annotations

import dataclasses

import pytest

from evaluators.arms.changes import Changes
from evaluators.arms.chats import moved
from evaluators.arms.evaluate import ask_arms, asking_of, courses_of
from evaluators.arms.figures import arms_of
from evaluators.arms.names import ARMS
from evaluators.iit.evaluate import evaluate, evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.asking import replies, user_message
from iit_bench.models.baselines import BlindModel
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run

pytestmark = pytest.mark.slow

FAMILIES = ("llava", "qwen2_vl")


@pytest.fixture(params=[*FAMILIES, "wings"])
def model(request, family_model):
    return load_model("wings", ModelOptions(device="cpu")) if request.param == "wings" else family_model(request.param)


def test_the_blind_arm_of_tier_v_equals_a_blind_run(model, bench, tmp_path):
    options = RunOptions(model=model.info.name, bench=bench.path, tiers=("V",), style="options", out=tmp_path / "run")
    evaluate_model(model, bench, options, progress=False)
    ask_arms(model, bench, options, ["blind"], progress=False)
    evaluate_model(BlindModel(model), bench, dataclasses.replace(options, blind=True, out=tmp_path / "blind"), progress=False)
    arm, blind = (load_run(folder) for folder in (options.out / "arms" / "blind", tmp_path / "blind"))
    assert [p.dialogue for p in arm.predictions] == [p.dialogue for p in blind.predictions]
    for one, other in zip(arm.predictions, blind.predictions, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert dataclasses.replace(one, logprobs=()) == dataclasses.replace(other, logprobs=())
    assert any(
        one.logprobs != pytest.approx(p.logprobs, abs=1e-2)
        for one, p in zip(arm.predictions, load_run(options.out).predictions, strict=True)
    )


def test_every_order_of_the_choices_is_what_the_model_chooses_in_it(family_model, bench, tmp_path):
    model = family_model("llava")
    options = RunOptions(model=model.info.name, bench=bench.path, tiers=("T", "V"), style="letters", limit=5, out=tmp_path / "run")
    evaluate_model(model, bench, options, progress=False)
    ask_arms(model, bench, options, ["reordered"], progress=False)
    found = load_run(options.out / "arms" / "reordered").predictions
    assert found
    flipped = 0
    for one in found:
        question = bench.questions[one.question]
        chosen = []
        for places in range(1, len(question.choices)):
            asked = moved(question, places)
            (score,) = model.score([ScoreRequest((user_message(asked, "letters"),), replies(asked, "letters"))])
            chosen.append(question.choices.index(asked.choices[score.logprobs.index(max(score.logprobs))]))
        assert one.moved_choices == tuple(chosen)
        assert one.choices == moved(question, 1).choices and one.choices[one.answer] == question.answer_text
        flipped += len(set(chosen)) > 1
    assert flipped  # a random model chooses by letter


@pytest.mark.parametrize("family", FAMILIES)
def test_the_runs_images_do_not_go_through_the_tower_again(family, family_folder, bench, tmp_path):
    """Arms that show no new image read none; a blank image of each size is read once."""
    model = load_model(f"hf:{family_folder(family)}", ModelOptions(device="cpu"))
    features = model.chats.features
    before = features.computed  # by the checks at load
    options = RunOptions(model=model.info.name, bench=bench.path, tiers=("V", "VV"), limit=6, out=tmp_path / "run")
    evaluate_model(model, bench, options, progress=False)
    run = load_run(options.out)
    dialogues = {dialogue.id: dialogue for dialogue in bench.dialogues}
    shown = {image.sha256 for p in run.predictions for turn in dialogues[p.dialogue].turns for image in bench.questions[turn].images}
    assert features.computed - before == len(shown)
    ask_arms(model, bench, options, ["blind", "blind-history", "swapped-history", "moved-last", "wordless"], progress=False)
    assert features.computed - before == len(shown)
    ask_arms(model, bench, options, ["blank"], progress=False)
    assert features.computed - before == len(shown) + 1  # the lab's pictures are of one size


def test_wings_reads_the_runs_images_once(bench, tmp_path, monkeypatch):
    model = load_model("wings", ModelOptions(device="cpu"))
    read = []
    encode = model.model.encode_images
    monkeypatch.setattr(model.model, "encode_images", lambda pixels: read.append(len(pixels)) or encode(pixels))
    options = RunOptions(model="wings", bench=bench.path, tiers=("V", "VV"), limit=6, out=tmp_path / "run", device="cpu")
    evaluate_model(model, bench, options, progress=False)
    first = sum(read)
    assert first > 0
    ask_arms(model, bench, options, ["blind-history", "moved-last"], progress=False)
    assert sum(read) == first


def test_an_arm_is_asked_in_rows_of_a_tree_as_its_run(bench, tmp_path):
    """Its scores are those of whole passes, chat by chat."""
    model = load_model("wings", ModelOptions(device="cpu"))
    assert model.way == "tree"
    options = RunOptions(model="wings", bench=bench.path, tiers=("VT", "TT"), style="letters", out=tmp_path / "run", device="cpu")
    evaluate_model(model, bench, options, progress=False)
    ask_arms(model, bench, options, ["irrelevant"], progress=False)
    run, arm = load_run(options.out), load_run(options.out / "arms" / "irrelevant")
    assert arm.run["engine"] == run.run["engine"]
    changes = Changes(bench, asking_of(run.run))
    courses, unanswered = courses_of(run, bench, None)
    assert not unanswered and len(courses) == len(arm.predictions)
    for course, one in zip(courses, arm.predictions, strict=True):
        (changed,) = changes.of("irrelevant", course)
        (alone,) = model.score([changed.request])
        assert one.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_eval_asks_its_arms_of_the_model_that_it_loaded(bench, tmp_path, monkeypatch):
    import evaluators.iit.evaluate as evaluation

    loaded = []
    load = evaluation.load_model
    monkeypatch.setattr(evaluation, "load_model", lambda *a, **k: loaded.append(a) or load(*a, **k))
    monkeypatch.setattr("evaluators.arms.evaluate.load_model", None)
    options = RunOptions(
        model="wings", bench=bench.path, tiers=("T", "V"), limit=4, arms=("blind", "pixels"), out=tmp_path / "run", device="cpu"
    )
    evaluate(options, progress=False)
    assert len(loaded) == 1
    assert [one.arm for one in arms_of(load_run(options.out))] == ["blind", "pixels"]
    assert all(one.pooled.difference.n for one in arms_of(load_run(options.out)))


@pytest.mark.parametrize("family", ["gemma3", "smolvlm", "paligemma", "wings"])
@pytest.mark.parametrize("scoring", ["loglikelihood", "generate"])
def test_every_arm_is_answered_by_models_of_many_families(family, scoring, family_model, bench, tmp_path):
    """Messages that are only an image, or end with one, are no error for any template."""
    model = load_model("wings", ModelOptions(device="cpu")) if family == "wings" else family_model(family)
    tiers = ("T", "VT", "V", "VV")
    asked = {"tiers": tiers, "scoring": scoring, "style": "letters", "limit": 4, "max_new_tokens": 4}
    options = RunOptions(model=model.info.name, bench=bench.path, out=tmp_path / "run", **asked)
    evaluate_model(model, bench, options, progress=False)
    ask_arms(model, bench, options, tuple(ARMS), named=False, progress=False)
    found = arms_of(load_run(options.out))
    expected = {"blind", "blank", "moved-last", "wordless", "irrelevant", "pixels", "reordered"}
    expected |= {"blind-history"} if model.capabilities.takes_histories else set()
    assert {one.arm for one in found} >= expected
    for one in found:
        assert one.run is not None and one.run.results.complete
        assert one.run.errors == () and one.run.results.outcomes["error"] == 0

"""What a score means without understanding: random, majority, and blind."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from scipy.stats import chisquare

from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.asking import user_message
from iit_bench.errors import UserError
from iit_bench.models.baselines import BlindModel
from iit_bench.models.contract import Capabilities, GenerateRequest, Model, ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.types import Message


def asks(text: str, *replies: str) -> ScoreRequest:
    return ScoreRequest((Message("user", (text,)),), replies)


def choices_of(model: Model, requests: list[ScoreRequest]) -> list[str]:
    results = model.score(requests)
    return [r.continuations[s.logprobs.index(max(s.logprobs))] for r, s in zip(requests, results, strict=True)]


def test_random_takes_every_reply_equally_often():
    requests = [asks(f"question {i}", "red", "green", "a much longer reply", "é") for i in range(4000)]
    counts = Counter(choices_of(load_model("random", ModelOptions()), requests))
    assert chisquare(list(counts.values())).pvalue > 0.001
    assert len(counts) == 4


def test_random_is_the_same_everywhere_and_follows_the_seed():
    requests = [asks(f"question {i}", "a", "b", "c") for i in range(12)]
    first = choices_of(load_model("random", ModelOptions(seed=0)), requests)
    assert "".join(first) == "bbbaaabaaaac"
    assert choices_of(load_model("random", ModelOptions(seed=1)), requests) != first


def test_random_does_not_look_at_the_order_of_replies():
    model = load_model("random", ModelOptions())
    forward = choices_of(model, [asks(f"question {i}", "a", "b", "c") for i in range(50)])
    assert choices_of(model, [asks(f"question {i}", "c", "a", "b") for i in range(50)]) == forward


def test_choice_of_a_baseline_does_not_depend_on_the_length_of_replies():
    result = load_model("random", ModelOptions()).score([asks("q", "a", "bb" * 20, "ccc")])[0]
    by_sum, by_length = ([p / n for p, n in zip(result.logprobs, lengths, strict=True)] for lengths in ((1, 1, 1), (1, 40, 3)))
    assert by_sum.index(max(by_sum)) == by_length.index(max(by_length))


def test_majority_says_the_answer_that_was_most_frequent_elsewhere(bench):
    model = load_model("majority", ModelOptions())
    model.prepare(bench)
    counts = bench.manifest["answer_counts"]
    requests = [ScoreRequest((user_message(q, "cloze"),), q.choices) for q in bench.questions.values()]
    for request, said in zip(requests, choices_of(model, requests), strict=True):
        assert counts.get(said, 0) == max(counts.get(reply, 0) for reply in request.continuations)
    assert len(set(choices_of(model, requests))) > 3


def test_majority_takes_the_first_of_equals(bench):
    model = load_model("majority", ModelOptions())
    model.prepare(dataclasses.replace(bench, manifest={"answer_counts": {"red": 2, "blue": 2, "green": 1}}))
    assert choices_of(model, [asks("q", "green", "blue", "red"), asks("q", "x", "y")]) == ["blue", "x"]


def test_majority_needs_the_counts_of_the_builder(bench):
    with pytest.raises(UserError, match="no answer counts"):
        load_model("majority", ModelOptions()).prepare(dataclasses.replace(bench, manifest={}))


@pytest.mark.parametrize("name", ["random", "majority"])
def test_baselines_refuse_what_they_cannot_do(name):
    with pytest.raises(UserError, match="has no checkpoint"):
        load_model(name, ModelOptions(checkpoint="folder"))
    with pytest.raises(UserError, match="--scoring loglikelihood"):
        load_model(name, ModelOptions()).generate([GenerateRequest((Message("user", ("Hm",)),))])


def test_seeds_of_random_are_different_models():
    infos = [load_model("random", ModelOptions(seed=seed)).info for seed in (0, 1)]
    assert infos[0].checkpoint_sha256 != infos[1].checkpoint_sha256


class Listener(Model):
    """Keeps the messages it is asked with."""

    def __init__(self) -> None:
        self.info = dataclasses.replace(load_model("random", ModelOptions()).info, accepts_images=False)
        self.capabilities = Capabilities(takes_images=False, why_not={"takes_images": "it listens", "takes_raw_text": "it listens"})
        self.heard: list[tuple[Message, ...]] = []

    def request_tokens(self, request):
        self.heard.append(request.messages)
        return 1

    def score(self, batch):
        self.heard += [request.messages for request in batch]
        return []

    generate = score


def test_blind_model_hears_the_words_without_the_images(make_image):
    image = make_image(1)
    chat = (
        Message("system", ("Be brief.",)),
        Message("user", (image, "\nWhat shape?")),
        Message("assistant", ("circle",)),
        Message("user", ("Is ", image, " red?")),
        Message("user", ("\nNo image here.",)),
    )
    listener = Listener()
    blind = BlindModel(listener)
    blind.request_tokens(ScoreRequest(chat, ("yes", "no")))
    blind.score([ScoreRequest(chat, ("yes", "no"))])
    blind.generate([GenerateRequest(chat)])
    words = ["Be brief.", "What shape?", "circle", "Is  red?", "\nNo image here."]
    assert [[message.parts for message in messages] for messages in listener.heard] == [[(text,) for text in words]] * 3


def test_blind_model_reports_it_and_takes_every_tier():
    listener = Listener()
    info = BlindModel(listener).info
    assert (info.blind, info.accepts_images, listener.info.blind) == (True, True, False)


def test_majority_refuses_letters_before_a_run_folder_is_made(bench, tmp_path):
    options = RunOptions(model="majority", bench=bench.path, out=tmp_path / "run", style="letters")
    with pytest.raises(UserError, match="does not support style 'letters'; use --style cloze or options"):
        evaluate(options, progress=False)
    assert not (tmp_path / "run").exists()

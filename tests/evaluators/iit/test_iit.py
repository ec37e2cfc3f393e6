"""The IIT evaluator, on a small benchmark of the real builder, with tiny models in real formats and with baselines."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.iit.turns import Asking, Course, prediction
from evaluators.runs.options import RunOptions
from evaluators.runs.summary import summary_json, summary_text
from iit_bench.asking import gold_reply, replies, user_message
from iit_bench.errors import UserError
from iit_bench.models.baselines import BlindModel
from iit_bench.models.contract import Capabilities, GenerateResult, Model, ModelOptions, ScoreRequest, ScoreResult
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark, load_benchmark, save_benchmark
from iit_bench.storage.runs import ERROR_FIELDS, RUN_FIELDS, load_run
from iit_bench.types import Image

T_ONLY = ("T", "TT", "TTT")


class Recorder(Model):
    """Passes every batch on to a real model and keeps the requests."""

    def __init__(self, model: Model) -> None:
        self.model, self.info, self.capabilities, self.requests = model, model.info, model.capabilities, []

    def request_tokens(self, request):
        return self.model.request_tokens(request)

    def score(self, batch):
        self.requests += batch
        return self.model.score(batch)

    def generate(self, batch):
        self.requests += batch
        return self.model.generate(batch)


def random_model(seed: int = 0) -> Model:
    return load_model("random", ModelOptions(seed=seed))


# ---------------------------------------------------------------- what is asked


def test_gold_history_asks_each_target_once_with_the_right_replies_before_it(run, bench):
    model = Recorder(random_model())
    found = run(model)
    assert [p.dialogue for p in found.predictions] == [dialogue.id for dialogue in bench.dialogues]
    expected = set()
    for dialogue in bench.dialogues:
        questions = [bench.questions[turn] for turn in dialogue.turns]
        texts = [text for q in questions for text in (q.question, q.answer_text)][:-1]
        images = tuple(tuple(image.sha256 for image in q.images) for q in questions)
        expected.add((tuple(texts), images, questions[-1].choices))
    seen = [
        (
            tuple(message.text.lstrip("\n") for message in request.messages),
            tuple(tuple(image.sha256 for image in message.images) for message in request.messages if message.role == "user"),
            request.continuations,
        )
        for request in model.requests
    ]
    assert set(seen) == expected
    assert len(seen) == len(set(seen))


def test_own_history_repeats_what_the_model_said(run, bench):
    model = Recorder(random_model())
    found = run(model, history="own")
    said = {(p.dialogue, p.position): p for p in found.predictions}
    assert len(said) == sum(len(dialogue.tier) for dialogue in bench.dialogues)
    prefixes = {request.messages: request for request in model.requests}
    wrong_replies = 0
    for dialogue in bench.dialogues:
        for position in range(1, len(dialogue.tier)):
            before = [said[dialogue.id, i] for i in range(position)]
            histories = [
                tuple(m.text for m in messages if m.role == "assistant")
                for messages in prefixes
                if messages[-1].text.lstrip("\n") == bench.questions[dialogue.turns[position]].question
            ]
            assert tuple(p.reply for p in before) in histories
            wrong_replies += any(p.outcome == "wrong" for p in before)
    assert wrong_replies > 20  # or the gold replies would have passed as well


def test_own_history_computes_equal_prefixes_once(run, bench):
    model = Recorder(random_model())
    found = run(model, history="own")
    said = {(p.dialogue, p.position): p.reply for p in found.predictions}
    prefixes = {
        (dialogue.turns[: position + 1], tuple(said[dialogue.id, i] for i in range(position)))
        for dialogue in bench.dialogues
        for position in range(len(dialogue.tier))
    }
    assert len(model.requests) == len(prefixes) < len(found.predictions)


def test_own_history_reports_every_position(run, bench):
    found = run(random_model(), history="own")
    assert {p.position for p in found.predictions} == {0, 1, 2}
    assert {(part.tier, part.position) for part in found.results.positions} >= {("TVV", i) for i in range(3)}
    assert found.results.n_dialogues == len(bench.dialogues)  # history turns are no targets


def test_generated_replies_become_the_history(run, llama):
    found = run(llama, history="own", scoring="generate", tiers=("TT",), max_new_tokens=6)
    model = Recorder(llama)
    run(model, out="again", history="own", scoring="generate", tiers=("TT",), max_new_tokens=6)
    first = [p.reply for p in found.predictions if p.position == 0]
    shown = [request.messages[1].text for request in model.requests if len(request.messages) == 3]
    assert sorted(shown) == sorted(first)


@pytest.mark.parametrize("style", ["cloze", "options", "letters"])
def test_style_decides_what_is_shown_and_what_is_scored(run, bench, llama, style):
    model = Recorder(llama)
    found = run(model, style=style, tiers=("T",))
    by_question = {p.question: p for p in found.predictions}
    assert len(model.requests) == len(by_question) == 6
    for request in model.requests:
        text = request.messages[0].text
        question = next(q for q in bench.questions.values() if q.id in by_question and text.startswith(q.question))
        assert request.continuations == replies(question, style)
        assert all((choice in text) == (style != "cloze") for choice in question.choices)
        p = by_question[question.id]
        assert p.chosen == max(range(len(p.logprobs)), key=p.logprobs.__getitem__)
        assert p.reply == replies(question, style)[p.chosen]
        assert (p.outcome == "correct") == (p.reply == gold_reply(question, style))


def test_style_is_the_benchmarks_own_unless_given(run, bench):
    assert run(random_model()).run["style"] == bench.manifest["default_style"] == "cloze"
    paper = dataclasses.replace(bench, manifest=dict(bench.manifest) | {"default_style": "letters"})
    assert run(random_model(), paper, out="paper").run["style"] == "letters"


def test_run_json_has_the_documented_fields(run):
    found = run(random_model(), limit=2)
    assert set(found.run) == {"format", "version", *RUN_FIELDS}
    assert found.run["ended"] >= found.run["started"]
    assert found.run["benchmark"]["tiers"] == dict.fromkeys(found.run["tiers"], 6)


def test_system_prompt_opens_every_chat(run):
    model = Recorder(random_model())
    found = run(model, system_prompt="Be brief.", tiers=("T", "TV"))
    assert all((r.messages[0].role, r.messages[0].text, r.messages[1].role) == ("system", "Be brief.", "user") for r in model.requests)
    assert found.run["system_prompt"] == "Be brief."


@pytest.mark.parametrize(
    ("choices", "logprobs", "chosen"),
    [
        (("aaaa", "éééé"), (-4.0, -5.0), (0, 0, 1)),  # as many characters, twice the bytes
        (("a", "bbb"), (-1.0, -2.0), (0, 1, 1)),
        (("a", "b", "c"), (-2.0, -1.0, -1.0), (1, 1, 1)),  # the first of equals
        (("日本", "abcd"), (-2.0, -3.9), (0, 1, 0)),
    ],
)
def test_choice_is_by_sum_by_characters_and_by_bytes(bench, choices, logprobs, chosen):
    dialogue = next(dialogue for dialogue in bench.dialogues if dialogue.tier == "T")
    question = dataclasses.replace(bench.questions[dialogue.target], choices=choices, answer=0, answer_text=choices[0])
    answer = ScoreResult(logprobs, (1,) * len(choices), (False,) * len(choices), 3)
    p = prediction(Course(dialogue, (question,)), 0, answer, Asking())
    assert (p.chosen, p.chosen_norm, p.chosen_bytes) == chosen


# ---------------------------------------------------------------- outcomes


class Parrot(Recorder):
    """Generates a reply by rule: the right choice, a wrong one, two at once, or none, in turn over the questions."""

    def __init__(self, model: Model, bench: Benchmark) -> None:
        super().__init__(model)
        self.capabilities = Capabilities(why_not={"takes_raw_text": "it only knows the benchmark's questions"})
        self.questions = {q.question: (i, q) for i, q in enumerate(bench.questions.values())}

    def generate(self, batch):
        return [GenerateResult(self.reply(request.messages[-1].text.lstrip("\n")), 1, 1) for request in batch]

    def kind(self, text: str) -> str:
        return ("correct", "wrong", "two", "none")[self.questions[text][0] % 4]

    def reply(self, text: str) -> str:
        question = self.questions[text][1]
        right, wrong = question.answer_text, question.choices[question.answer - 1]
        return {"correct": f"It is {right}.", "wrong": wrong, "two": f"{right} {wrong}", "none": "Hm?"}[self.kind(text)]


def test_generated_replies_are_right_wrong_or_unparsed_and_counted_apart(run, bench):
    model = Parrot(random_model(), bench)
    found = run(model, scoring="generate", tiers=("T",))
    kinds = Counter(model.kind(bench.questions[p.question].question) for p in found.predictions)
    expected = {"correct": kinds["correct"], "wrong": kinds["wrong"], "unparsed": kinds["two"] + kinds["none"]}
    assert {outcome: n for outcome, n in found.results.outcomes.items() if n} == {k: n for k, n in expected.items() if n}
    assert kinds["two"] + kinds["none"] > 0
    assert found.results.tiers[0].acc.value == pytest.approx(kinds["correct"] / 6)  # unparsed is wrong
    assert all(p.chosen == -1 and p.reply for p in found.predictions if p.outcome == "unparsed")


def test_text_only_model_has_no_visual_score_and_no_iit_score(run, llama):
    found = run(llama)
    assert {p.tier for p in found.predictions} == set(T_ONLY)
    assert found.results.iit["acc"].value is None
    assert found.results.v_score["acc"].value is None
    assert all(tier.acc.value is None and "no images" in tier.acc.note for tier in found.results.tiers if "V" in tier.tier)
    assert len(found.results.tiers) == 14
    (line,) = [line for line in summary_text("x", found.results).splitlines() if "not available" in line]
    assert "no images" in line and all(f"tier {tier}" in line for tier in ("V", "TV", "VT")) and "IIT score, T score, V score" in line
    assert found.results.text_only_score["acc"].value is not None and "text-only score  " in summary_text("x", found.results)
    assert json.loads(summary_json(found.results))["complete"] is True


def test_text_only_model_refuses_a_run_of_only_visual_tiers(run, llama):
    with pytest.raises(UserError, match=r"takes no images .* --blind"):
        run(llama, tiers=("V", "TV"))


def test_blind_removes_every_image_and_nothing_else(run, bench):
    seeing, blinded = Recorder(random_model()), Recorder(random_model())
    run(seeing)
    run(BlindModel(blinded), out="blind")

    def texts(model):
        return Counter(tuple(message.text.lstrip("\n") for message in request.messages) for request in model.requests)

    assert any(message.images for request in seeing.requests for message in request.messages)
    assert not any(message.images for request in blinded.requests for message in request.messages)
    assert texts(blinded) == texts(seeing)


def test_blind_text_model_runs_every_tier(bench, tmp_path, llama_folder):
    options = RunOptions(model=f"hf:{llama_folder}", bench=bench.path, out=tmp_path / "run", blind=True, device="cpu", limit=4)
    results = evaluate(options, progress=False)
    assert results.iit["acc"].value is not None
    assert load_run(tmp_path / "run").run["model"]["blind"] is True


@pytest.mark.slow
def test_images_reach_a_vision_model(run, tiny_llava):
    seeing = load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))
    blind = load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"), blind=True)
    with_images, without = (run(m, out=str(i), tiers=("T", "V")).predictions for i, m in enumerate((seeing, blind)))
    for a, b in zip(with_images, without, strict=True):
        assert (a.logprobs == pytest.approx(b.logprobs, abs=1e-5)) == (a.tier == "T")
        assert (a.prompt_tokens > b.prompt_tokens) == (a.tier == "V")


def test_limit_takes_whole_groups_and_the_same_for_every_model(run, bench, llama):
    groups = list(dict.fromkeys(dialogue.group for dialogue in bench.dialogues))[:3]
    found = run(random_model(), limit=3)
    assert Counter(p.group for p in found.predictions) == dict.fromkeys(groups, 7)
    text_only = run(llama, out="text", limit=3)
    assert {p.group for p in text_only.predictions} == {group for group in groups if bench.questions[group].modality == "T"}
    with pytest.raises(UserError, match="--limit 0"):
        run(random_model(), out="none", limit=0)


def test_unknown_tier_is_refused(run):
    with pytest.raises(UserError, match="has no tier TVTV; it has T, TT"):
        run(random_model(), tiers=("T", "TVTV"))


# ---------------------------------------------------------------- items that fail


def test_dialogue_longer_than_the_context_is_an_error_and_pairs_use_what_both_have(run, bench, llama_folder):
    model = load_model(f"hf:{llama_folder}", ModelOptions(device="cpu"))
    recorder = Recorder(model)
    whole = run(recorder, out="whole", tiers=T_ONLY)
    lengths = {request.messages: model.request_tokens(request) for request in recorder.requests}
    pairs = sorted(length for messages, length in lengths.items() if len(messages) == 3)
    model.info = dataclasses.replace(model.info, max_context=pairs[2])  # half of tier TT fits
    found = run(model, tiers=T_ONLY)
    by_tier = {tier.tier: tier for tier in found.results.tiers}
    assert by_tier["T"].outcomes["error"] == 0
    assert by_tier["TT"].outcomes["error"] == sum(length > pairs[2] for length in pairs) > 0
    assert found.results.complete  # these items will never fit: the run is whole
    assert {error["reason"] for error in found.errors} == {"context overflow"}
    assert Counter(error["tier"] for error in found.errors) == Counter(p.tier for p in found.predictions if p.outcome == "error")

    right = {p.dialogue: p.outcome == "correct" for p in found.predictions if p.outcome != "error"}
    both = [(right[f"TT:{p.group}"], right[f"T:{p.group}"]) for p in found.predictions if p.tier == "TT" and p.outcome != "error"]
    effect = next(effect for effect in found.results.interleaving if effect.over == "TT")
    assert effect.difference.n == len(both) == len([length for length in pairs if length <= pairs[2]])
    assert effect.difference.value == pytest.approx(sum(a - b for a, b in both) / len(both))
    kept = {p.dialogue: p.logprobs for p in whole.predictions}
    for p in found.predictions:
        assert p.outcome == "error" or kept[p.dialogue] == pytest.approx(p.logprobs, abs=1e-4)
    assert by_tier["TT"].acc_strict.n == 6 > by_tier["TT"].acc.n


def test_turns_after_one_that_failed_are_not_asked(run, bench, llama_folder):
    model = load_model(f"hf:{llama_folder}", ModelOptions(device="cpu"))
    lengths = sorted(
        model.request_tokens(ScoreRequest((user_message(q, "cloze"),), q.choices)) for q in bench.questions.values() if not q.images
    )
    model.info = dataclasses.replace(model.info, max_context=lengths[len(lengths) // 2])
    recorder = Recorder(model)
    found = run(recorder, history="own", tiers=("TT",))
    outcomes = {(p.dialogue, p.position): p.outcome for p in found.predictions}
    reasons = {(error["dialogue"], error["position"]): error["reason"] for error in found.errors}
    after = [dialogue for dialogue, position in outcomes if position == 0 and outcomes[dialogue, 0] == "error"]
    assert after
    assert all(reasons[dialogue, 1] == "an earlier turn failed" for dialogue in after)
    assert all(set(error) == set(ERROR_FIELDS) for error in found.errors)
    assert found.results.complete


@pytest.mark.slow
def test_corrupt_image_is_counted_and_not_fatal(run, bench, tmp_path, tiny_llava):
    targets = [dialogue.target for dialogue in bench.dialogues if dialogue.tier == "V"]
    broken = bench.questions[targets[2]]
    damaged = dataclasses.replace(broken, images=(Image(broken.images[0].data[:60]),))
    questions = [damaged if q.id == broken.id else q for q in bench.questions.values()]
    manifest = {name: value for name, value in bench.manifest.items() if name not in ("format", "version", "files", "rows_sha256")}
    folder = save_benchmark(tmp_path / "damaged", questions, bench.dialogues, manifest, "# card\n")
    found = run(load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu")), load_benchmark(folder), tiers=("T", "TV", "V"))
    touched = {d.id for d in bench.dialogues if broken.id in d.turns and d.tier in ("T", "TV", "V")}
    assert {error["dialogue"] for error in found.errors} == touched == {p.dialogue for p in found.predictions if p.outcome == "error"}
    assert {(error["kind"], error["reason"]) for error in found.errors} == {("item", "unreadable image")}
    assert found.results.complete
    assert next(tier for tier in found.results.tiers if tier.tier == "V").acc.n == 5

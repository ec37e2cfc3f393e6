"""Reported faults of reasoning and of the clock in runs of suite iit: one test per fault, with a real model that writes a given script."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from evaluators.iit.evaluate import evaluate, evaluate_model
from evaluators.iit.turns import Asking, Course, prediction
from evaluators.runs import session
from evaluators.runs.advice import advice
from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run
from iit_bench.types import OUTCOMES
from tests.scripted_model import THINKING, save_scripted

SAYS_B_THEN_A = ["<think>", "n", "o", "t", "B", "</think>", "A", "<|end|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model that reasons about B, and replies A."""
    return save_scripted(tmp_path_factory.mktemp("script"), SAYS_B_THEN_A, context=2048)


@pytest.fixture
def options(folder, bench, tmp_path):
    def make(out: str = "run", **more) -> RunOptions:
        given = {"model": f"hf:{folder}", "bench": bench.path, "out": tmp_path / out, "device": "cpu", "limit": 2, "tiers": ("T", "TT")}
        return RunOptions(**(given | {"scoring": "generate", "style": "letters"} | more))

    return make


class Recorder(Model):
    """Passes every batch on to a real model and keeps the requests."""

    def __init__(self, model: Model) -> None:
        self.model, self.info, self.capabilities, self.requests = model, model.info, model.capabilities, []

    def request_tokens(self, request):
        return self.model.request_tokens(request)

    def score(self, batch):
        return self.model.score(batch)

    def generate(self, batch):
        self.requests += batch
        return self.model.generate(batch)


# ---------------------------------------------------------------- reasoning


def test_reasoning_is_not_read_as_the_answer(options):
    """The letter in the reasoning was read, and 32 tokens cut every thinking model: the reply is read, after a budget for reasoning."""
    evaluate(options(), progress=False)
    run = load_run(options().out, "iit")
    assert {(p.chosen, p.reply, p.reasoning, p.finish_reason, p.reasoning_tokens, p.reply_tokens) for p in run.predictions} == {
        (0, "A", "notB", "stop", 6, 7)
    }
    assert all(p.outcome == ("correct" if p.answer == 0 else "wrong") for p in run.predictions)
    assert (run.run["reasoning_tokens"], run.run["max_new_tokens"], run.results.advice) == (1024, 32, "")


def test_a_budget_of_reasoning_is_refused_where_nothing_is_generated(options):
    """`--reasoning-tokens 64` was taken under loglikelihood, and recorded among the arguments; a run that generates takes it."""
    for scoring in ("auto", "loglikelihood"):
        with pytest.raises(UserError, match="--reasoning-tokens 64 has no effect under scoring loglikelihood"):
            evaluate(options(scoring=scoring, reasoning_tokens=64), progress=False)
    evaluate(options(scoring="loglikelihood", reasoning_tokens=0), progress=False)
    assert load_run(options().out).run["reasoning_tokens"] == 0


def test_a_reply_that_ends_inside_its_reasoning_is_truncated(options):
    """Cut reasoning was read as the answer; it is an outcome of its own, with the finish reason kept."""
    evaluate(options(reasoning_tokens=0, max_new_tokens=5), progress=False)
    run = load_run(options().out, "iit")
    assert {(p.chosen, p.outcome, p.reply, p.finish_reason) for p in run.predictions} == {(-1, "truncated", "", "length")}
    assert run.results.outcomes == dict.fromkeys(OUTCOMES, 0) | {"truncated": len(run.predictions)}
    assert run.results.tiers[0].acc.value == 0 and run.results.tiers[0].acc.n > 0


def test_the_next_turn_is_shown_the_reply_without_its_reasoning(options, folder, bench):
    """Under own history a model's reasoning went into the next turn's prompt."""
    model = Recorder(load_model(f"hf:{folder}", ModelOptions(device="cpu")))
    evaluate_model(model, bench, options(history="own"), progress=False)
    earlier = [message.text for request in model.requests for message in request.messages if message.role == "assistant"]
    assert earlier and set(earlier) == {"A"}


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"text": "", "reasoning": "B", "unfinished_reasoning": True, "finish_reason": "stop"}, "truncated"),
        ({"text": "Well, let me look at", "finish_reason": "length"}, "truncated"),
        ({"text": "B", "finish_reason": "length"}, "B"),  # at the limit with a choice that is recognised
        ({"text": "Well.", "finish_reason": "stop"}, "unparsed"),
        ({"text": "Well.", "finish_reason": ""}, "unparsed"),  # of a log of before
        ({"text": "<think>A</think>B"}, "B"),  # of a log of before, with the reasoning still in the text
        ({"text": "<think>A or B"}, "truncated"),
    ],
)
def test_truncated_replies_are_told_from_unparsed_ones(bench, given, outcome):
    """A reply at the token limit without a choice, and one cut in its reasoning, were "unparsed" like one that rambles."""
    dialogue = next(one for one in bench.dialogues if one.tier == "T" and len(bench.questions[one.target].choices) > 1)
    course = Course(dialogue, (bench.questions[dialogue.target],))
    found = prediction(
        course, 0, GenerateResult(**({"prompt_tokens": 1, "new_tokens": 9} | given)), Asking(scoring="generate", style="letters")
    )
    expected = outcome if outcome != "B" else "correct" if found.answer == 1 else "wrong"
    assert found.outcome == expected and (found.chosen == 1) == (outcome == "B")


@pytest.mark.parametrize(
    ("counts", "reasoned", "words"),
    [
        ({"truncated": 6, "wrong": 4}, True, ("6 of 10 replies were cut", "--reasoning-tokens (now 0)", "enable_thinking=false")),
        ({"truncated": 6, "wrong": 4}, False, ("raise --max-new-tokens (now 5)",)),
        ({"unparsed": 4, "truncated": 2, "correct": 4}, False, ("4 of 10 replies name", "--style options,", "--scoring loglikelihood")),
        ({"unparsed": 5, "wrong": 5, "error": 9}, False, ()),
        ({"unparsed": 6, "wrong": 5, "error": 0}, False, ("6 of 11",)),
        ({}, False, ()),
    ],
)  # fmt: skip
def test_a_run_most_of_whose_replies_cannot_be_read_says_what_to_change(counts, reasoned, words):
    """A run of 500 unparsed replies ended like any other: one sentence names the option to change."""
    sentence = advice(
        counts, {"suite": "iit", "style": "letters", "max_new_tokens": 5, "reasoning_tokens": 0}, reasoned=reasoned, scores=True
    )
    assert all(word in sentence for word in words) and bool(sentence) == bool(words)


def test_the_advice_is_on_the_terminal_and_in_results_json(options, folder, bench, tmp_path, capsys):
    """The sentence is printed after the figures, on stderr, and kept."""
    command = ["eval", "--model", f"hf:{folder}", "--bench", str(bench.path), "--tiers", "T", "--limit", "2", "--scoring", "generate"]
    assert (
        main([*command, "--quiet", "--device", "cpu", "--reasoning-tokens", "0", "--max-new-tokens", "4", "--out", str(tmp_path / "run")])
        == 0
    )
    said = capsys.readouterr().err
    kept = load_run(tmp_path / "run").results.advice
    assert "--reasoning-tokens (now 0)" in kept and said == f"iit-bench: {kept}\n"  # and no bar of transformers under --quiet


# ---------------------------------------------------------------- the clock


def test_a_run_resumed_tomorrow_tells_its_template_the_same_day(tmp_path_factory, bench, tmp_path, monkeypatch):
    """A template that asks the clock gave other prompts the next day, and the resumed run mixed both."""
    folder = save_scripted(
        tmp_path_factory.mktemp("clock"), SAYS_B_THEN_A, "Today: {{ strftime_now('%d %b %Y') }}" + THINKING, context=2048
    )
    given = {"model": f"hf:{folder}", "bench": bench.path, "device": "cpu", "tiers": ("T",), "limit": 2}

    def on(day: str, out: str, **more) -> dict:
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls.fromisoformat(day).replace(tzinfo=tz)

        monkeypatch.setattr(session, "datetime", Clock)
        evaluate(RunOptions(**given, out=tmp_path / out, **more), progress=False)
        return load_run(tmp_path / out).run

    first = on("2026-11-29", "run")
    log = (tmp_path / "run" / "responses.jsonl").read_bytes()
    again = on("2026-11-30", "run")
    assert again["resumed"] == 1 and first["date"] == again["date"] == first["model"]["settings"]["date"] == "2026-11-29"
    assert (tmp_path / "run" / "responses.jsonl").read_bytes() == log  # every key is the same
    other = on("2026-11-30", "other")
    keys = [{json.loads(line).get("key") for line in (tmp_path / name / "responses.jsonl").open()} - {None} for name in ("run", "other")]
    assert other["date"] == "2026-11-30" and not keys[0] & keys[1]
    assert "--date 2026-11-29" in first["command"] and first["arguments"]["date"] == "2026-11-29"
    repeated = on("2026-12-24", "repeated", date=first["arguments"]["date"])
    assert repeated["model"]["settings"] == first["model"]["settings"]


def test_a_run_whose_template_asks_no_clock_is_repeated_without_a_date(options):
    """The date is recorded in every run.json, and is part of the command only where it changes the prompt."""
    evaluate(options(limit=1, tiers=("T",), max_new_tokens=1), progress=False)
    run = load_run(options().out).run
    assert datetime.date.fromisoformat(run["date"]) and "--date" not in run["command"] and "date" not in run["model"]["settings"]


def test_template_arguments_are_in_run_json(options, tmp_path, capsys):
    """`enable_thinking=false` could not be said; it is recorded as values, and switches the budget off."""
    evaluate(options(chat_template_kwargs="enable_thinking=false"), progress=False)
    run = load_run(options().out).run
    assert run["chat_template_kwargs"] == run["model"]["settings"]["chat_template_kwargs"] == {"enable_thinking": False}
    assert run["reasoning_tokens"] == 0

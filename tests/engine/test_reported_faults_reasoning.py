"""Reported faults of budgets for reasoning in the engine: one test per fault, with a real model that writes a given script."""

from __future__ import annotations

import pytest

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits, model_identity, request_key
from iit_bench.engine.run import Failure, answer
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.types import Message
from tests.scripted_model import save_scripted


@pytest.mark.parametrize(("room", "reasoning"), [(40, "Why"), (6, "Why"), (3, "Wh")])
def test_a_budget_for_reasoning_takes_what_the_context_leaves(tmp_path, room, reasoning):
    """A long prompt that leaves less than the whole budget must not become a "context overflow": it would have fitted without one."""
    script = ["<think>", "W", "h", "y", "</think>", "A", "<|end|>"]
    prompt = (Message("user", ("?",)),)
    length = len(["<|user", "?<|end", "<|assistant", ""]) - 1 + 1  # the special tokens and the question mark
    folder = save_scripted(tmp_path / "model", script, context=length + room)
    model = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
    assert model.request_tokens(GenerateRequest(prompt, 1, 0)) == length + 1
    asked = [GenerateRequest(prompt, 1, 30), GenerateRequest((*prompt, Message("assistant", ("x" * 60,)), *prompt), 1, 30)]
    with ResponseLog(tmp_path / "log") as log:
        fits, long = answer(model, asked, log, BatchLimits(8, 4096)).answers
        assert fits.reasoning == reasoning and fits.text == ("A" if room >= 6 else "") and fits.unfinished_reasoning == (room < 6)
        assert list(log.responses) == [request_key(asked[0], model_identity(model.info))]
    assert isinstance(long, Failure) and long.reason == "context overflow"

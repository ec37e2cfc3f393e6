"""What a page shows of a dialogue in an arm, written out by hand."""

from __future__ import annotations

import pytest

from evaluators.arms.pixels import draw
from evaluators.arms.shown import ArmChat, ArmChats
from iit_bench.storage.benchmark import Benchmark


@pytest.fixture
def shown(shapes: Benchmark):
    """shown("blind", "V:v1", style=…) → the dialogue as the arm asks it."""
    known = {one.id: one for one in shapes.dialogues}

    def call(arm: str, name: str, replies=(), style="cloze", history="gold") -> ArmChat | None:
        return ArmChats(shapes).of(arm, {"style": style, "history": history}, known[name], replies)

    return call


def test_only_the_turn_that_an_arm_changes_is_told(shown, picture):
    assert shown("blind", "VV:v1") == ArmChat({1: ("What colour is it?",)})
    assert shown("blind-history", "VV:v1") == ArmChat({0: ("Look at  and name it.",)})
    both = {0: ("Look at ", picture["a"], " and name it."), 1: (picture["c"], "\nWhat colour is it?")}
    assert shown("swapped-history", "VV:v1") == ArmChat(both)
    assert shown("pixels", "VT:t1") == ArmChat({1: (draw("What is the capital of France?"),)})


def test_a_message_is_whole_with_its_connector_and_its_choices(shown, picture):
    choices = "\nChoices: red; blue; green\nAnswer with one of the choices."
    assert shown("moved-last", "VTV:v1", style="options") == ArmChat({2: (f"Well.\n\nWhat colour is it?{choices}\n", picture["a"])})
    reordered = "What is the capital of France?\nA. Oslo\nB. Paris\nC. Rome\nD. Bern\nAnswer with the letter of the right choice."
    assert shown("reordered", "VT:t1", style="letters") == ArmChat({1: (reordered,)})


def test_under_own_history_the_replies_are_the_models(shown):
    assert shown("blind", "VV:v1", replies=("a reply",), history="own") == ArmChat({1: ("What colour is it?",)}, ("a reply",))
    assert shown("blind", "VV:v1", replies=("a reply",)) == ArmChat({1: ("What colour is it?",)})


@pytest.mark.parametrize("arm, name", [("blind", "VT:t1"), ("irrelevant", "V:v1"), ("reordered", "T:t2")])
def test_a_dialogue_that_an_arm_does_not_ask_has_no_chat(shown, arm, name):
    assert shown(arm, name, style="letters") is None


def test_one_set_of_changes_serves_all_runs_of_a_style(shapes, monkeypatch):
    drawn = []
    monkeypatch.setattr("evaluators.arms.chats.draw", lambda text: drawn.append(text) or draw(text))
    chats = ArmChats(shapes)
    for one in shapes.dialogues:
        for scoring in ("loglikelihood", "generate"):
            chats.of("pixels", {"style": "cloze", "history": "gold", "scoring": scoring, "system_prompt": scoring}, one)
    assert sorted(drawn) == ["Is it?", "What is the capital of France?"]

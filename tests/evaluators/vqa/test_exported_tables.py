"""Exported tables: VLMEvalKit's own run of a model and `iit-bench eval --suite vqa` of it are equal, item by item."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from builders.export.export import ExportOptions, export
from evaluators.iit.extraction import extract_choice
from iit_bench.cli import main
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

TIERS = ("T", "TT", "V", "TV", "VVT", "VVV")


@pytest.fixture(scope="module")
def exported(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "LMU"
    export(ExportOptions(bench=bench.path, out=out, to="vlmeval", tiers=TIERS), progress=False)
    return out


@pytest.fixture(scope="module")
def names(bench) -> dict[str, str]:
    return {tier: f"IIT_{tier}_{bench.rows_sha256[:8]}" for tier in TIERS}


@pytest.fixture(scope="module")
def both(oracle, exported, names, tmp_path_factory, make_parrot) -> tuple[Any, dict[str, Any]]:
    """Our run and VLMEvalKit's of a model that chooses by a hash of the prompt."""
    work = tmp_path_factory.mktemp("work")
    parrot = make_parrot()
    parrot.reply = runpy.run_path(str(Path(__file__).with_name("replies.py")))["choosing"]
    tasks = tuple(names.values())
    own = oracle.vlmevalkits_own("choosing", exported, tasks, exported, work)
    return oracle.ours(parrot, tasks, exported, work / "run"), own


def test_predictions_verdicts_and_figures_are_vlmevalkits(oracle, both):
    run, own = both
    oracle.check_equal_item_by_item(run, own)
    for result in run.results.tasks:
        assert result.notes == ()
        assert result.scores["acc"].value == pytest.approx(own[result.task]["result"][0]["Overall"], abs=1e-12)
        assert result.scores["acc"].n == 6
    assert all(run.results.outcomes[outcome] for outcome in ("correct", "wrong", "unparsed"))


def test_equal_replies_get_the_verdicts_of_generate_scoring(bench, both, names):
    """Whatever the prompts: the table has the question's choices, order and gold answer, and the rules agree."""
    run, own = both
    for tier, task in names.items():
        dialogues = [dialogue for dialogue in bench.dialogues if dialogue.tier == tier]
        items = [item for item in run.items if item.task == task]
        for dialogue, item in zip(dialogues, items, strict=True):
            target = bench.questions[dialogue.target]
            reply = own[task]["predictions"][item.item]
            chosen = extract_choice(reply, target.choices, "letters")
            expected = "unparsed" if chosen < 0 else "correct" if chosen == target.answer else "wrong"
            assert item.outcome == expected, (reply, target.choices)


def test_tiny_llava_in_plain_transformers(oracle, tiny_llava, exported, names, tmp_path):
    tasks = (names["TT"], names["TV"], names["VVV"])
    own = oracle.vlmevalkits_own("llava", tiny_llava, tasks, exported, tmp_path)
    llava = load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))
    run = oracle.ours(llava, tasks, exported, tmp_path / "run")
    oracle.check_equal_item_by_item(run, own)
    assert any(item.reply for item in run.items)


def test_a_text_only_model_is_asked_the_text_tiers_of_the_command_line(exported, names, tmp_path):
    words = [
        "eval",
        "--suite",
        "vqa",
        "--model",
        "base-llm",
        "--blind",
        "--data-root",
        str(exported),
        "--tasks",
        names["TT"],
        "--limit",
        "2",
    ]
    assert main([*words, "--max-new-tokens", "3", "--device", "cpu", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert len(load_run(tmp_path / "run").items) == 2

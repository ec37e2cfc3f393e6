"""The forgetting ledger: transitions of items, their rates, and the correction for lucky guesses."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluators.iit.columns import Turns
from evaluators.iit.forgetting import forgetting
from evaluators.iit.ledger import are_repeats, ledger, noise_floor, transitions
from evaluators.iit.results import summarise
from evaluators.runs.summary import summary_text
from iit_bench.errors import UserError
from tests.evaluators.conftest import Predict
from tests.recompute_figures import Check
from tests.recompute_figures import pairs as matching
from tests.recompute_ledger import check_ledger
from tests.recompute_ledger import noise_floor as recomputed_floor


def test_every_turn_that_both_finished_is_lost_kept_gained_or_never_had(predict: Predict) -> None:
    outcomes = {"a": ("correct", "wrong"), "b": ("correct", "correct"), "c": ("unparsed", "correct"), "d": ("wrong", "unparsed")}
    outcomes |= {"e": ("correct", "error"), "f": ("error", "correct")}
    base, run = (Turns.of(predict("TT", target, both[side]) for target, both in outcomes.items()) for side in (0, 1))  # type: ignore[arg-type]
    expected = {"a": "lost", "b": "kept", "c": "gained", "d": "never"}
    assert transitions(run, base) == {(f"{target}/TT", 1): what for target, what in expected.items()}


def test_history_turns_that_both_scored_have_transitions_too(predict: Predict) -> None:
    base = Turns.of([predict("TT", "a", "correct", position=0), predict("TT", "a", "wrong")])
    run = Turns.of([predict("TT", "a", "wrong"), predict("TT", "a", "wrong", position=0), predict("VT", "a", "wrong")])
    assert transitions(run, base) == {("a/TT", 0): "lost", ("a/TT", 1): "never"}


def test_transitions_of_other_questions_are_refused(predict: Predict) -> None:
    with pytest.raises(UserError, match="asks another question"):
        transitions(Turns.of([predict("T", "a", choices=3)]), Turns.of([predict("T", "a")]))


def pair_of_runs(predict: Predict, seed: int, tiers: tuple[str, ...] = ("T", "TT", "VT", "V"), n: int = 30) -> tuple[list, list]:
    """Base and run: predictions of mixed outcomes and numbers of choices, some of which failed, over shared histories."""
    rng = np.random.default_rng(seed)
    sides: tuple[list, list] = ([], [])
    for tier in tiers:
        for i in range(n):
            asked = {"choices": (2, 4, 5)[i % 3], "cluster": f"{tier[-1]} cluster {i // 2}", "subject": f"subject {i % 4}"}
            for side in sides:
                outcome = str(rng.choice(["correct", "wrong", "unparsed", "error"], p=[0.55, 0.3, 0.1, 0.05]))
                side.append(predict(tier, f"{tier[-1]}{i}", outcome, history=(f"history {i % 7}",) * (len(tier) - 1), **asked))  # type: ignore[arg-type]
    return sides


@pytest.mark.oracle
@pytest.mark.parametrize("modality", ["T", "V"])
def test_a_ledger_with_replies_without_a_choice_equals_its_recomputation(predict: Predict, modality: str) -> None:
    base, run = pair_of_runs(predict, 1)
    check, sides = Check(), [pd.DataFrame([dataclasses.asdict(p) for p in rows]) for rows in (base, run)]
    for rows in sides:
        rows["acc"] = (rows["outcome"] == "correct").astype(float)
    made = ledger(Turns.of(run), Turns.of(base), modality)  # type: ignore[arg-type]
    assert made is not None
    stored = json.loads(json.dumps(dataclasses.asdict(made)))
    order = [rows.sort_values(["dialogue", "position"]).reset_index(drop=True) for rows in sides]
    check_ledger(check, modality, stored, *matching(*order, ["dialogue", "position"]))
    assert check.off == [] and check.compared > 300


def test_counts_sum_to_the_items_that_both_finished_and_parts_to_the_pool(predict: Predict) -> None:
    base, run = pair_of_runs(predict, 2)
    made = ledger(Turns.of(run), Turns.of(base))
    assert made is not None
    both = sum(a.outcome != "error" != b.outcome and a.tier.endswith("T") for a, b in zip(base, run, strict=True))
    for by in ("all", "tier", "source", "subject", "history"):
        parts = [part for part in made.parts if part.by == by]
        assert sum(sum(part.counts.values()) for part in parts) == both
    assert [part.part for part in made.parts if part.by == "history"] == ["none", "text only", "with image"]
    assert not [part for part in made.parts if part.by == "turn"]


def test_lost_items_are_named_those_lost_in_most_tiers_first(predict: Predict) -> None:
    lost_in = {"a": ("TT", "T"), "b": ("T",), "c": ()}
    base = [predict(tier, target) for target in lost_in for tier in ("T", "TT", "VT")]
    run = [
        predict(tier, target, "wrong" if tier in tiers else "correct") for target, tiers in lost_in.items() for tier in ("T", "TT", "VT")
    ]
    made = ledger(Turns.of(run), Turns.of(base))
    assert made is not None
    assert [(one.question, one.dialogues, one.n) for one in made.lost] == [("a", ("a/T", "a/TT"), 3), ("b", ("b/T",), 3)]


def test_under_own_history_every_turn_of_the_modality_has_its_position(predict: Predict) -> None:
    def run(wrong: int) -> Turns:
        return Turns.of(predict(tier, "a", "wrong" if at == wrong else "correct", position=at) for tier in ("TT", "VT") for at in (0, 1))

    made = ledger(run(0), run(9))
    assert made is not None
    turns = {part.part: part.counts["lost"] for part in made.parts if part.by == "turn"}
    assert turns == {"0": 1, "1": 0}  # position 0 of VT is a visual turn


def test_the_summary_of_a_run_has_the_counts_and_the_corrected_rate(predict: Predict) -> None:
    base = [predict("T", f"T{i}") for i in range(10)]
    run = [predict("T", f"T{i}", "wrong" if i < 3 else "correct") for i in range(10)]
    results = dataclasses.replace(summarise(run, {}, True), forgetting=forgetting(run, base, "base", "base"))
    assert "of 10 text items: 3 lost, 0 gained, 7 kept; corrected for lucky guesses, 40.0% [" in summary_text("x", results)


def test_there_is_no_ledger_without_a_common_tier(predict: Predict) -> None:
    assert ledger(Turns.of([predict("V", "a")]), Turns.of([predict("V", "a")])) is None


HEADER: dict[str, Any] = {
    "name": "a run",
    "model": {"checkpoint_sha256": "a" * 64, "blind": False, "accepts_images": False, "dtype": "float32", "settings": {}},
    "benchmark": {"rows_sha256": "b" * 64},
    "scoring": "generate",
    "style": "letters",
    "history": "gold",
    "limit": None,
    "seed": 0,
}


def test_runs_of_one_checkpoint_asked_alike_are_repeats() -> None:
    assert are_repeats(HEADER, HEADER | {"seed": 1, "batch_size": 4})
    other = HEADER["model"] | {"checkpoint_sha256": "c" * 64}
    for changed in ({"model": other}, {"style": "options"}, {"model": HEADER["model"] | {"dtype": "bfloat16"}}):
        assert not are_repeats(HEADER, HEADER | changed)
    nameless = HEADER | {"model": HEADER["model"] | {"checkpoint_sha256": ""}}
    assert not are_repeats(nameless, nameless)


def test_runs_of_one_model_behind_one_server_are_repeats() -> None:
    model = HEADER["model"] | {"checkpoint_sha256": "", "device": "server", "name": "openai:m", "checkpoint": "http://localhost:8000/v1"}
    run = HEADER | {"model": model}
    assert are_repeats(run, run)
    for changed in ({"name": "openai:other"}, {"checkpoint": "http://localhost:9000/v1"}):
        assert not are_repeats(run, HEADER | {"model": model | changed})


@pytest.mark.oracle
@pytest.mark.parametrize("modality", ["T", "V"])
def test_the_noise_floor_and_its_interval_equal_their_recomputation(predict: Predict, modality: str) -> None:
    made = [pair_of_runs(predict, seed)[0] for seed in range(3)]
    tables = [pd.DataFrame([dataclasses.asdict(p) for p in rows]) for rows in made]
    for rows in tables:
        rows["acc"] = (rows["outcome"] == "correct").astype(float)
    check = Check()
    stored = dataclasses.asdict(noise_floor([Turns.of(rows) for rows in made], modality))  # type: ignore[arg-type]
    check.figure("noise floor", stored, recomputed_floor(tables, modality))
    assert check.off == [] and check.compared >= 5


def test_the_noise_floor_is_the_share_of_pairs_of_repeats_that_disagree(predict: Predict) -> None:
    answers = {"a": "ccc", "b": "ccw", "c": "wcw", "d": "cwe", "e": "www"}
    words = {"c": "correct", "w": "wrong", "e": "error"}
    runs = [Turns.of(predict("T", target, words[of[i]]) for target, of in answers.items()) for i in range(3)]  # type: ignore[arg-type]
    floor = noise_floor(runs)
    assert (floor.value, floor.n) == (pytest.approx((0 + 2 / 3 + 2 / 3 + 0) / 4), 4)  # d failed once
    assert noise_floor(runs[:2]).value == pytest.approx(2 / 5)
    same = noise_floor([runs[0], runs[0]])
    assert same.value == 0 and same.low == 0 and same.high is not None and same.high > 0

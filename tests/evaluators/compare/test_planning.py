"""Sample sizes from two runs, or from numbers given by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evaluators.compare.planning import PlanOptions, plan
from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.errors import UserError
from tests.recompute_figures import Check
from tests.recompute_plan import check_plan


@pytest.fixture(scope="module")
def pilot(bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pilot")
    for seed, name in enumerate("ab"):
        evaluate(RunOptions(model="random", seed=seed, bench=bench.path, out=folder / name), progress=False)
    return folder / "a", folder / "b"


def test_kish_s_design_effect_turns_pairs_into_items_and_groups() -> None:
    (alone,) = plan(PlanOptions(difference=(0.05,), discordance=0.2)).sizes
    (clustered,) = plan(PlanOptions(difference=(0.05,), discordance=0.2, cluster_size=3, icc=0.5)).sizes
    assert alone.items == alone.effective == alone.groups == clustered.effective
    assert clustered.items == 2 * alone.items and clustered.groups == -(-clustered.items // 3)


def test_more_tests_and_more_power_need_more_groups() -> None:
    def groups(**more) -> int:
        return plan(PlanOptions(difference=(0.05,), discordance=0.2, **more)).sizes[0].groups or 0

    assert groups() < groups(tests=4) < groups(tests=4, power=0.9) and groups() > groups(alpha=0.1)


@pytest.mark.slow
def test_a_pilot_s_own_detectable_difference_needs_the_pilot_s_own_size(pilot: tuple[Path, Path]) -> None:
    first = plan(PlanOptions(difference=(0.05,), pilot=pilot, over="*"))
    result = first.basis.pilot
    assert result is not None and result.detectable is not None
    (size,) = plan(PlanOptions(difference=(result.detectable,), pilot=pilot, over="*")).sizes
    assert size.items == pytest.approx(result.difference.n, rel=0.1)
    assert first.basis.pilot_groups == first.basis.benchmark_groups == 12


def as_printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("more", "icc"), [((), 0.0), (("--cluster-size", "3", "--icc", "0.5", "--tests", "4", "--power", "0.9", "--alpha", "0.1"), 0.5)]
)
def test_sizes_equal_their_recomputation(capsys: pytest.CaptureFixture[str], more: tuple[str, ...], icc: float) -> None:
    printed, check = as_printed(capsys, "--difference", "0.05,0.1,0.15", "--discordance", "0.12", *more), Check()
    check_plan(check, printed, icc=icc)
    assert check.off == [] and check.compared == 16
    printed["sizes"][1]["effective"] -= 1  # one pair fewer does not have the power
    printed["basis"]["design_effect"] += 0.01
    check_plan(check, printed, icc=icc)
    assert {line.split(":")[0] for line in check.off} >= {"design effect by Kish", "0.1 effective"}


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("over", ["*", "TT", "V*"])
def test_what_a_pilot_shows_equals_its_recomputation(pilot: tuple[Path, Path], capsys: pytest.CaptureFixture[str], over: str) -> None:
    printed = as_printed(capsys, "--difference", "0.1,0.2", "--over", over, "--pilot", *map(str, pilot))
    check = Check()
    check_plan(check, printed, pilot)
    assert check.off == [] and check.compared >= 30
    printed["basis"]["discordance"] *= 1.001
    printed["basis"]["items_per_group"] += 0.01
    check_plan(check, printed, pilot)
    assert {line.split(":")[0] for line in check.off} >= {"discordance", "items_per_group"}


@pytest.mark.slow
def test_pool_that_the_pilot_does_not_have_is_refused(pilot: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"share nothing called 'TTTT'; give --over one of T, TT"):
        plan(PlanOptions(difference=(0.05,), pilot=pilot, over="TTTT"))


@pytest.mark.slow
def test_runs_that_agree_on_all_show_no_discordance(pilot: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="agree on every item"):
        plan(PlanOptions(difference=(0.05,), pilot=(pilot[0], pilot[0])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either --pilot"),
        ({"discordance": 0.1, "pilot": (Path("a"), Path("b"))}, "give either --pilot"),
        ({"discordance": 2.0}, "--discordance 2 is no fraction"),
        ({"discordance": 0.1, "power": 80}, "--power 80 is no fraction"),
        ({"discordance": 0.1, "difference": (2.0,)}, "--difference 2 is no fraction between 0 and 1; write 2 points as 0.02"),
        ({"discordance": 0.1, "cluster_size": math.nan}, "--cluster-size is 1 or more"),
        ({"discordance": 0.1, "tests": 0}, "--tests 0 is too low"),
        ({"discordance": 0.1, "icc": 2}, "correlation from 0 to 1"),
        ({"pilot": (Path("a"), Path("b")), "icc": 0.2}, "read from the pilot"),
        ({"discordance": 0.1, "difference": ()}, "no difference to plan for"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PlanOptions(**{"difference": (0.02,), **options})


def test_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--difference", "0.02,0.05", "--discordance", "0.1", "--tests", "4"]) == 0
    table = capsys.readouterr().out
    assert "over 4 tests" in table and "0.0125 (Holm's first step)" in table and "2,858" in table
    assert main(["plan", "--difference", "0.02", "--discordance", "0.1", "--tests", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"][0]["groups"] == 2858


def test_one_item_and_the_test_are_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--difference", "0.02", "--discordance", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "Test: exact McNemar," in printed and "Each item counts as an independent pair; a group has 1 item." in printed


def test_a_difference_above_the_discordance_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--difference", "0.02,0.2", "--discordance", "0.1"]) == 0
    sentence = "For a difference of 20 points more items are taken to differ than are given (10.0%)"
    assert sentence in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_difference_above_the_pilot_s_discordance_is_reported(pilot: tuple[Path, Path]) -> None:
    made = plan(PlanOptions(difference=(0.02, 0.99), pilot=pilot, over="*"))
    assert 0.02 < made.basis.discordance < 0.99 and made.sizes[1].discordance == 0.99
    assert "For a difference of 99 points more items are taken to differ than do in the pilot" in " ".join(made.as_table().split())


def test_more_than_can_be_searched_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--difference", "0.0001", "--discordance", "0.5"]) == 0
    assert "more than 10,000,000" in capsys.readouterr().out
    assert main(["plan", "--difference", "two"]) == 2

"""A model's page: its figures are those of results.json, with cost and provenance of run.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iit_bench.storage.runs import load_run
from reports.leaderboard import report
from tests.reports.test_leaderboard import SEVEN, Reader, shown

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun]) -> tuple[dict[str, Path], Path]:
    make = maker_in(tmp_path_factory.mktemp("runs"))
    runs = {
        "base": make("base", 0.95, text_only=True, tiers=SEVEN),
        "llava": make("llava", 0.6, tiers=SEVEN, base="base", failed=2, usage={"answers": 3, "cost": 0.25}),
        "part": make("part", 0.7, tiers=("T", "V"), bench=SEVEN),
    }
    return runs, report(list(runs.values()), tmp_path_factory.mktemp("report")).parent


def page_of(made: tuple[dict[str, Path], Path], name: str) -> Reader:
    return Reader((made[1] / "models" / f"{name}.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["base", "llava", "part"])
def test_scores_and_tiers_by_every_metric_are_those_of_the_results(made: tuple[dict[str, Path], Path], name: str) -> None:
    rows, results = page_of(made, name).rows("tiers"), load_run(made[0][name]).results
    wanted = {"subset score": results.subset_score} if name == "part" else {"IIT": results.iit, "text-only": results.text_only_score}
    for score, figures in wanted.items():
        for label, metric in (("acc", "acc"), ("acc_norm", "acc_norm"), ("chance-corrected", "acc_corrected")):
            value = figures[metric].value
            assert rows[score][label].split(" | ")[0] == ("not available" if value is None else shown(value))
    for tier in results.tiers:
        value = tier.acc_bytes.value
        assert rows[tier.tier]["acc_bytes"].split(" | ")[0] == ("not available" if value is None else shown(value))
        if tier.chance is not None:
            assert rows[tier.tier]["chance"] == shown(tier.chance)


def test_the_base_is_beside_the_model_where_it_has_the_tier(made: tuple[dict[str, Path], Path]) -> None:
    rows = page_of(made, "llava").rows("tiers")
    base = {tier.tier: tier.acc.value for tier in load_run(made[0]["base"]).results.tiers}
    assert rows["TT"]["base"].startswith(shown(base["TT"] or 0.0)) and rows["TV"]["base"].startswith("not available")


def test_cost_outcomes_and_the_command_are_those_of_the_run(made: tuple[dict[str, Path], Path]) -> None:
    page, run = page_of(made, "llava"), load_run(made[0]["llava"])
    for words in ("1 min 20 s", "15\u202f355", "server: cost", "0.25", run.run["command"], run.run["git_commit"], "torch 2.13.0"):
        assert words in page.text, words
    rows = page.rows("outcomes-by-tier")
    assert {name: int(rows["all"][name]) for name in run.results.outcomes} == run.results.outcomes
    assert page.rows("errors")["llava"]["reason"] == "out of memory"
    assert "none: the model ran in this process" in page_of(made, "base").text


def test_what_there_is_none_of_is_said_in_one_sentence(made: tuple[dict[str, Path], Path]) -> None:
    assert "Not available: the run was not evaluated against a base run" in page_of(made, "part").text

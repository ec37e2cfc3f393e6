"""`report --base`: runs of any suite against a base that they were not evaluated against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.compare.tasks import compare_suites
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports.bases import measured
from reports.cells import points
from reports.leaderboard import report
from tests.reports.test_leaderboard import Reader

MakeRun = Callable[..., Path]
TIERS = ("T", "TT", "V")


def test_an_iit_base_gives_the_forgetting_of_an_evaluation_against_it(make_run: MakeRun) -> None:
    base, other = make_run("base", 0.95, tiers=TIERS, text_only=True), make_run("other", 0.5, tiers=TIERS)
    evaluated = load_run(make_run("tuned", 0.7, tiers=TIERS, base="base", folder="evaluated")).results.forgetting
    runs = [load_run(make_run("tuned", 0.7, tiers=TIERS, base=before, folder=f"tuned-{before}")) for before in ("", "other")]
    found = measured(base, runs, ())
    assert [run.run["name"] for run in found.iit] == ["tuned", "tuned", "base"] and not found.left_out
    for run in found.iit[:2]:
        assert run.results.forgetting == evaluated
    given = measured(base, [load_run(base), load_run(other)], ())
    assert [run.run["name"] for run in given.iit] == ["base", "other"] and given.iit[0].results.forgetting is None


def test_without_a_base_runs_keep_what_they_have(make_run: MakeRun) -> None:
    make_run("base", 0.95, tiers=TIERS)
    run = load_run(make_run("tuned", 0.7, tiers=TIERS, base="base"))
    assert measured(None, [run], ()).iit == [run]


def test_runs_that_cannot_be_measured_are_named_with_the_reason(make_run: MakeRun) -> None:
    base = make_run("base", tiers=TIERS)
    more = {"style": {"style": "letters"}, "random": {"model": {"parameters": 0}}, "visual": {"tiers": ("V",)}}
    runs = [load_run(make_run(name, **({"tiers": TIERS} | changes))) for name, changes in more.items()]
    with pytest.raises(UserError, match="no run of the page can be compared with it; style: not asked alike, style"):
        measured(base, runs, ())
    found = measured(base, [*runs, load_run(make_run("tuned", tiers=TIERS))], ())
    assert [reason.split(":")[0] for reason in found.left_out] == ["style", "random", "visual"]
    assert "baseline without weights" in found.left_out[1] and "no tier that ends in T" in found.left_out[2]


@pytest.mark.slow
def test_a_base_of_all_suites_is_the_base_of_each(make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path) -> None:
    base, runs = tmp_path / "all", []
    for name, skill in (("base", 0.95), ("tuned", 0.6)):
        made = {"iit": make_run(name, skill, tiers=TIERS)}
        made |= {suite: make_suite_run(suite, name, {task: skill}) for suite, task in (("text", "piqa"), ("vqa", "MME"))}
        if name == "base":
            base.mkdir()
        runs += [path.rename(base / suite) if name == "base" else path for suite, path in made.items()]
    page = Reader(report(runs[3:], tmp_path / "out", base=base).read_text(encoding="utf-8"))
    assert page.rows("forgetting")["tuned"]["base"].startswith("base")
    for suite, task in (("text", "piqa"), ("vqa", "MME")):
        expected = compare_suites(load_run(base / suite), load_run(tmp_path / f"tuned-{suite}"))[0][0].result.difference
        assert page.rows(f"{suite}-forgetting")["tuned"][task].split(" | ")[0] == points(expected.value or 0.0)
    assert "tuned lost" in page.text and "Not measured against the base" not in page.text

"""The pages show what was observed of a model, and shift beside forgetting over models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evaluators.attention.shift import attention_figures
from evaluators.attention.table import FILE, Observed, ObservedDialogue, load_observed, save_observed
from iit_bench.storage.runs import load_run, load_run_header
from reports.entries import groups_of
from reports.iit.attention import attention_section, shift_against_forgetting
from reports.leaderboard import report
from reports.section import Drawing, TablePart, Words
from reports.subject import Subject
from tests.reports.test_leaderboard import HOSTILE, Reader
from tests.resealed import reseal

MakeRun = Callable[..., Path]


def plant(run: Path, twist: float = 0.3, router: bool = False, **changes) -> Path:
    """attention.parquet of 12 dialogues with 5 layers in a run folder; `twist` is how far the curves after are from those before."""
    rng, rows = np.random.default_rng(7), []
    for item in range(12):
        before = rng.random(5) / 10
        after = (1 - twist) * before + twist * rng.random(5) / 10
        names = {"dialogue": f"TV:{item}", "tier": ("TV", "V")[item % 2], "group": f"g{item}", "cluster": f"c{item // 2}"}
        curves = {"before": tuple(before), "image": (0.001,) * 5, "between": (), "after": tuple(after)}
        weights = {"router_layers": tuple(range(5)), "router_image": (0.4,) * 5, "router_after": tuple(rng.random(5))} if router else {}
        counts = {"n_before": 4, "n_image": 16, "n_between": 0, "n_after": 8}
        rows.append(ObservedDialogue(**names, **counts, **curves, **weights, history_clusters=(), layers=tuple(range(5))))
    header = load_run_header(run)
    about = {"name": header["name"], "model": header["model"], "benchmark": header["benchmark"], "limit": 9, "versions": {}, "command": ""}
    about |= {
        "style": header["style"],
        "system_prompt": header.get("system_prompt", ""),
        "tiers": ["TV", "V"],
        "not_observed": {"no image": 3},
    }
    save_observed(run / FILE, Observed(about | changes, rows))
    return run


def words(section) -> str:
    return " ".join(part.text for part in section.parts if isinstance(part, Words))


@pytest.fixture
def observed(make_run: MakeRun) -> list[Path]:
    """Four models with a base, all but the base observed."""
    small = {"n": 30, "tiers": ("T", "TV", "V"), "system_prompt": ""}
    runs = [make_run("base", 0.95, text_only=True, **small)]
    for name, skill, twist in (("a", 0.9, 0.1), ("b", 0.7, 0.5), ("c", 0.8, 0.3), ("d", 0.6, 0.9)):
        runs.append(plant(make_run(name, skill, base="base", **small), twist, router=name == "a"))
    return runs


def entries(runs: list[Path]):
    (group,) = groups_of([load_run(run, "iit") for run in runs])
    return group, {entry.name: entry for entry in group.entries}


@pytest.mark.slow
def test_a_models_page_shows_its_curves_its_router_and_every_tier(observed: list[Path]) -> None:
    group, by_name = entries(observed)
    section = attention_section(Subject(by_name["a"], group, None))
    figures = attention_figures(load_observed(observed[1] / FILE).rows)
    plots = [part.plot for part in section.parts if isinstance(part, Drawing)]
    assert [plot.key for plot in plots] == ["attention-curves", "attention-router"]
    assert [row[2] for row in plots[0].rows if row[0] == "text after"] == [one.value for one in figures.curves["after"]]
    assert (
        f"{figures.pooled.shift.value:.2f}" in words(section)
        and "3 dialogues, no image" in words(section)
        and "first 9 groups" in words(section)
    )
    (table,) = [part.table for part in section.parts if isinstance(part, TablePart)]
    assert [row[0].text for row in table.rows] == ["TV", "V"] and table.foot[0][1].sort == pytest.approx(
        figures.pooled.shift.value, abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.oracle
def test_the_correlation_with_forgetting_is_scipys(observed: list[Path]) -> None:
    group, by_name = entries(observed)
    section = shift_against_forgetting(group.entries)
    shifts = [attention_figures(load_observed(run / FILE).rows).pooled.shift.value for run in observed[1:]]
    lost = [by_name[name].run.results.forgetting.pooled.difference.value for name in "abcd"]
    pearson = stats.pearsonr(shifts, lost)
    low, high = pearson.confidence_interval(0.95)
    assert f"Pearson {pearson.statistic:.2f} ({low:.2f} to {high:.2f})" in words(section) and "over 4 models" in words(section)
    assert f"Spearman {stats.spearmanr(shifts, lost).statistic:.2f}" in words(section)


def test_three_models_have_no_correlation(observed: list[Path]) -> None:
    group, _ = entries(observed[:4])
    assert "not available, 3 models, and a correlation is shown from 4 on" in words(shift_against_forgetting(group.entries))


def test_models_that_were_not_observed_have_no_section(make_run: MakeRun) -> None:
    group, by_name = entries([make_run("base", 0.9, text_only=True), make_run("a", 0.8)])
    assert shift_against_forgetting(group.entries) is None
    assert attention_section(Subject(by_name["a"], group, None)) is None


def test_a_table_of_another_model_is_named_and_not_shown(make_run: MakeRun) -> None:
    run = plant(make_run("a", 0.8, system_prompt=""))
    header = json.loads((run / "run.json").read_text())
    header["model"]["checkpoint_sha256"] = "1" * 64
    reseal(run / "run.json", header)
    group, by_name = entries([run])
    for section in (attention_section(Subject(by_name["a"], group, None)), shift_against_forgetting(group.entries)):
        assert "is of another model; make it again with `iit-bench attention RUN`" in words(section)


@pytest.mark.slow
def test_the_report_has_both_sections_and_shows_hostile_names_as_text(observed: list[Path], make_run: MakeRun, tmp_path: Path) -> None:
    small = {"n": 30, "tiers": ("T", "TV", "V"), "system_prompt": ""}
    hostile = plant(make_run(HOSTILE, 0.5, base="base", folder="hostile", **small))
    page = report([*observed[:2], hostile], tmp_path / "report")
    front, own = (Reader(path.read_text(encoding="utf-8")) for path in (page, page.parent / "models" / "a.html"))
    assert "shift" in " ".join(front.attributes("id")) and "attention-heading" in own.attributes("id")
    for reader in (front, own):
        ids = reader.attributes("id")
        assert len(ids) == len(set(ids)) and [tag for tag, _ in reader.elements].count("script") == 1
    assert "not available, 2 models" in front.text and HOSTILE in front.text
    for kind in ("svg", "png", "pdf", "csv"):
        assert (page.parent / "figures" / f"leaderboard-shift-forgetting.{kind}").is_file()


def test_a_plot_of_one_layer_curve_without_an_interval_is_drawn(make_run: MakeRun) -> None:
    run = plant(make_run("a", 0.8, system_prompt=""))
    rows = [dataclasses.replace(load_observed(run / FILE).rows[0], group="g", cluster="c")]
    save_observed(run / FILE, Observed(load_observed(run / FILE).about, rows))
    group, by_name = entries([run])
    section = attention_section(Subject(by_name["a"], group, None))
    assert "no interval" in words(section) and any(isinstance(part, Drawing) for part in section.parts)

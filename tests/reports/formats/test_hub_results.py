"""`.eval_results/*.yaml` is read by huggingface_hub as it was meant."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from iit_bench.errors import UserError
from reports.formats.export import RunExportOptions, export_runs


def write(run, out, **more):
    export_runs(RunExportOptions(runs=(run,), out=out, to="hub", **more))
    (file,) = out.glob("*/.eval_results/*.yaml")
    return file, parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.oracle
def test_every_score_and_tier_is_an_entry_with_interval_and_n_in_its_note(make_run, tmp_path):
    run = make_run("wings", 0.7)
    file, entries = write(run, tmp_path / "out", dataset="lab/iit", source="https://example.org/logs")
    assert file.relative_to(tmp_path / "out").as_posix() == "wings/.eval_results/iit.yaml"
    results = json.loads((run / "results.json").read_text())
    expected = {name: results[name]["acc"] for name in ("iit", "t_score", "v_score", "text_only_score")}
    expected |= {tier["tier"]: tier["acc"] for tier in results["tiers"]}
    assert {entry.task_id: entry.value for entry in entries} == {
        name: pytest.approx(100 * figure["value"], abs=1e-4) for name, figure in expected.items()
    }
    for entry in entries:
        figure = expected[entry.task_id]
        assert f"95% interval {100 * figure['low']:.1f}–{100 * figure['high']:.1f}, n {figure['n']}," in entry.notes
        assert (entry.dataset_id, entry.source_url, entry.date) == ("lab/iit", "https://example.org/logs", "2026-01-02T03:05:25+00:00")


def test_a_figure_that_does_not_exist_has_no_entry(make_run, tmp_path):
    _, entries = write(make_run("llm", 0.9, text_only=True), tmp_path / "out", dataset="lab/iit")
    assert {entry.task_id for entry in entries} == {"text_only_score", "T", "TT", "TTT"}


@pytest.mark.parametrize("dataset", [None, "iit", "a/b/c", "/iit"])
def test_the_benchmarks_name_on_the_hub_is_asked_for(make_run, tmp_path, dataset):
    with pytest.raises(UserError, match="--dataset OWNER/NAME"):
        write(make_run("a"), tmp_path / "out", dataset=dataset)
    assert not (tmp_path / "out").exists()

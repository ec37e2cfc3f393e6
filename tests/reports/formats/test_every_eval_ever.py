"""Records of Every Eval Ever are valid by its own schemas and validator, and its samples add up to its figures."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from evaluators.runs.reading import load_run
from reports.formats.export import RunExportOptions, export_runs

jsonschema = pytest.importorskip("jsonschema")
WHEEL = importlib.util.find_spec("every_eval_ever")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHEEL is None, reason="every-eval-ever is not installed: see the Makefile")]


def schema(name: str) -> dict:
    return json.loads((Path(WHEEL.origin).parent / "schemas" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def records(wings_run, odd_run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records") / "out"
    export_runs(RunExportOptions(runs=(wings_run, odd_run), out=out, to="every-eval-ever", organization="A lab", dataset="lab/iit"))
    return out


def parts(records: Path, name: str) -> tuple[dict, list[dict]]:
    """The summary of a run, and its samples."""
    (summary,) = (path for path in records.glob("data/*/*/*/*.json") if json.loads(path.read_text())["model_info"]["name"] == name)
    lines = summary.with_name(f"{summary.stem}_samples.jsonl").read_text(encoding="utf-8").split("\n")
    return json.loads(summary.read_text()), [json.loads(line) for line in lines if line]


@pytest.mark.oracle
def test_every_record_is_valid_by_the_schemas_of_the_wheel(records):
    of_summary, of_sample = (jsonschema.Draft7Validator(schema(name)) for name in ("eval.schema.json", "instance_level_eval.schema.json"))
    for name in ("wings", "random"):
        summary, samples = parts(records, name)
        assert list(of_summary.iter_errors(summary)) == []
        assert samples and [error.message for sample in samples for error in of_sample.iter_errors(sample)] == []


@pytest.mark.oracle
def test_its_own_validator_has_no_error_and_no_warning(records, make_suite_run, tmp_path):
    run = make_suite_run("text", "hf:org/model", {"arc_easy": 0.6})
    export_runs(RunExportOptions(runs=(run,), out=tmp_path / "out", to="every-eval-ever"))
    files = [str(path) for folder in (records, tmp_path / "out") for path in sorted(folder.glob("data/*/*/*/*.json*"))]
    assert len(files) == 5
    done = subprocess.run(
        [sys.executable, "-m", "every_eval_ever.validate", "--format", "json", *files], capture_output=True, text=True, cwd=records
    )
    found = json.loads(done.stdout)
    problems = [(Path(one["file"]).name, *one["errors"], *one["warnings"]) for one in found if one["errors"] or one["warnings"]]
    assert (problems, len(found), done.returncode) == ([], 5, 0)


@pytest.mark.oracle
def test_the_samples_of_a_tier_add_up_to_its_figure(records):
    summary, samples = parts(records, "wings")
    scores = defaultdict(list)
    for sample in samples:
        scores[sample["evaluation_result_id"]].append(sample["evaluation"]["score"])
    figures = {result["evaluation_result_id"]: result["score_details"] for result in summary["evaluation_results"]}
    assert len(scores) == 14
    for key, values in scores.items():
        assert figures[key]["score"] == pytest.approx(sum(values) / len(values))
        assert figures[key]["uncertainty"]["num_samples"] == len(values)


def test_interval_standard_error_and_clusters_are_in_the_uncertainty(records, wings_run):
    summary, _ = parts(records, "wings")
    figure = load_run(wings_run).results.iit["acc"]
    (found,) = [one["score_details"] for one in summary["evaluation_results"] if one["evaluation_result_id"] == "iit/acc"]
    assert found["score"] == figure.value and found["uncertainty"]["num_clusters"] == figure.clusters
    interval = found["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"], interval["confidence_level"]) == (figure.low, figure.high, 0.95)
    assert found["uncertainty"]["standard_error"]["value"] == figure.se


def test_a_sample_has_the_prompt_the_choices_the_reply_and_every_outcome(records, wings_run, odd_run):
    _, samples = parts(records, "wings")
    run = load_run(wings_run)
    prompts = run.prompt_columns()["prompt"].to_pylist()
    for sample, prediction, prompt in zip(samples, run.predictions, prompts, strict=True):
        reply = sample["output"]["raw"][0] if sample["output"] else sample["messages"][-1]["content"]
        assert (reply, sample["input"]["choices"], sample["input"]["formatted"]) == (prediction.reply, list(prediction.choices), prompt)
        assert json.loads(sample["metadata"]["logprobs"]) == list(prediction.logprobs)
    _, odd = parts(records, "random")
    assert [sample["metadata"]["outcome"] for sample in odd] == [one.outcome for one in load_run(odd_run).predictions]
    assert all(("error" in sample) == (sample["metadata"]["outcome"] == "error") for sample in odd)


def test_the_same_run_gives_the_same_bytes(records, wings_run, odd_run, tmp_path):
    again = tmp_path / "again"
    export_runs(RunExportOptions(runs=(odd_run, wings_run), out=again, to="every-eval-ever", organization="A lab", dataset="lab/iit"))
    files = {path.relative_to(records): path.read_bytes() for path in records.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}

"""A run written as a log of inspect: inspect reads and counts it, and reading it back loses nothing that both sides can say."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("inspect_ai")

from evaluators.runs.reading import load_run, read_runs
from iit_bench.storage.runs import PROMPTS
from reports.formats.export import RunExportOptions, export_runs
from reports.leaderboard import report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logs(wings_run, odd_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("logs") / "out"
    export_runs(RunExportOptions(runs=(wings_run, odd_run), out=out, to="inspect"))
    return out


@pytest.fixture(scope="module")
def log(logs):
    from inspect_ai.log import read_eval_log

    return read_eval_log(logs / "wings.eval", resolve_attachments=True)


@pytest.mark.parametrize("name", ["wings", "odd"])
def test_a_run_written_and_read_back_is_the_same(logs, wings_run, odd_run, name):
    mine = load_run(wings_run if name == "wings" else odd_run)
    (back,) = read_runs(logs / f"{name}.eval")
    assert back.predictions == mine.predictions
    assert back.run == mine.run
    assert back.errors == mine.errors
    assert back.results == mine.results
    ours, theirs = mine.prompt_columns(), back.prompt_columns()
    assert (ours is None) == (theirs is None) == (name == "odd")
    assert ours is None or {key: column.to_pylist() for key, column in ours.items()} == {k: c.to_pylist() for k, c in theirs.items()}


@pytest.mark.oracle
def test_inspects_own_accuracy_of_the_samples_is_ours(log, wings_run):
    from inspect_ai.scorer import value_to_float

    results, number = load_run(wings_run).results, value_to_float()
    assert {score.name for score in log.results.scores} == {"acc", "acc_norm", "acc_bytes"}
    for tier in results.tiers:
        mine = [sample for sample in log.samples if sample.metadata["tier"] == tier.tier]
        for metric in ("acc", "acc_norm", "acc_bytes"):
            values = [number(sample.scores[metric].value) for sample in mine]
            assert sum(values) / len(values) == pytest.approx(getattr(tier, metric).value)
            stored = next(score for score in log.results.scores if score.name == metric).metrics[tier.tier]
            assert stored.value == getattr(tier, metric).value and stored.metadata["n"] == len(mine)
            assert stored.metadata["low"] == getattr(tier, metric).low


@pytest.mark.oracle
def test_every_picture_is_in_the_log_once_per_sample_and_byte_for_byte(log, bench):
    for sample in log.samples:
        turns = next(one for one in bench.dialogues if one.id == sample.metadata["dialogue"]).turns
        expected = [image.data for turn in turns for image in bench.questions[turn].images]
        parts = [part for message in sample.input if not isinstance(message.content, str) for part in message.content]
        shown = [part.image for part in parts if part.type == "image"]
        assert [base64.b64decode(uri.partition(",")[2]) for uri in shown] == expected
        assert all(uri.startswith("data:image/png;base64,") for uri in shown)
        assert len(set(sample.attachments.values())) == len(sample.attachments) or not sample.attachments


def test_the_chat_has_gold_replies_and_the_last_question(log, bench):
    for sample in log.samples:
        dialogue = next(one for one in bench.dialogues if one.id == sample.metadata["dialogue"])
        questions = [bench.questions[turn] for turn in dialogue.turns]
        assert [one.role for one in sample.input] == ["user", "assistant"] * (len(questions) - 1) + ["user"]
        assert [one.text for one in sample.input[1::2]] == [question.answer_text for question in questions[:-1]]
        assert sample.input[-1].text.strip() == questions[-1].question.replace("<image>", "").strip()
        assert sample.choices[ord(sample.target) - ord("A")] == questions[-1].answer_text
        assert (sample.scores["acc"].value == "C") == (sample.output.completion == questions[-1].answer_text)


def test_outcomes_that_inspect_has_no_word_for_keep_their_reasons(logs, odd_run):
    from inspect_ai.log import read_eval_log

    samples = read_eval_log(logs / "odd.eval").samples
    mine = Counter(one.outcome for one in load_run(odd_run).predictions)
    assert Counter(sample.scores["acc"].reason for sample in samples if sample.scores and sample.scores["acc"].value == "N") == {
        "unparsed": mine["unparsed"],
        "truncated": mine["truncated"],
    }
    failed = [sample for sample in samples if sample.error]
    assert len(failed) == mine["error"] and {one.error.message.partition(":")[0] for one in failed} == {"context overflow"}
    assert len(samples) == sum(mine.values())


@pytest.mark.oracle
def test_inspects_command_dumps_the_log(logs):
    done = subprocess.run([sys.executable, "-m", "inspect_ai", "log", "dump", str(logs / "odd.eval")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    dumped = json.loads(done.stdout)
    assert dumped["status"] == "success" and len(dumped["samples"]) == dumped["results"]["total_samples"]
    assert dumped["samples"][0]["metadata"]["tier"]


def test_a_log_joins_the_leaderboard_as_the_run_that_it_is(logs, wings_run, tmp_path):
    of_log = report([logs / "wings.eval"], tmp_path / "of-log").read_text()
    of_run = report([wings_run], tmp_path / "of-run").read_text()
    assert of_log == of_run


def test_a_score_that_was_edited_in_inspect_counts(logs, tmp_path):
    from inspect_ai.log import ProvenanceData, edit_score, read_eval_log, write_eval_log
    from inspect_ai.scorer import ScoreEdit

    changed = read_eval_log(logs / "wings.eval")
    sample = next(one for one in changed.samples if one.scores["acc"].value == "C")
    edit_score(changed, sample.id, "acc", ScoreEdit(value="I", provenance=ProvenanceData(author="a reader")), recompute_metrics=False)
    write_eval_log(changed, tmp_path / "changed.eval")
    (before,), (after,) = read_runs(logs / "wings.eval"), read_runs(tmp_path / "changed.eval")
    assert after.results.outcomes["correct"] == before.results.outcomes["correct"] - 1


def test_runs_of_the_other_suites_keep_their_items(make_suite_run, tmp_path):
    run = make_suite_run("vqa", "wings", {"MMBench": 0.6}, failed=2)
    manifest = export_runs(RunExportOptions(runs=(run,), out=tmp_path / "out", to="inspect"))
    (name,) = [file for file in manifest["files"] if file.endswith(".eval")]
    (back,), mine = read_runs(tmp_path / "out" / name), load_run(run)
    assert [(one.item, one.cluster, one.metric, one.score, one.outcome) for one in back.items] == [
        (one.item, one.cluster, one.metric, one.score, one.outcome) for one in mine.items
    ]
    assert back.results.tasks[0].scores == mine.results.tasks[0].scores
    assert back.run == mine.run


def test_prompts_are_in_the_log(log, wings_run):
    assert (wings_run / PROMPTS).is_file() and all(sample.metadata["prompt"] for sample in log.samples)

"""Results whose readers keep items without prompts: lmms-eval's and lighteval's files, as their own tests make them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from evaluators.explain.explain import explain
from evaluators.show.show import show
from iit_bench.cli import main
from iit_bench.errors import UserError

FOREIGN = Path(__file__).parents[1] / "runs" / "foreign"
LMMS_EVAL = runpy.run_path(str(FOREIGN / "test_lmms_eval_files.py"))["write"]


def test_a_gap_between_files_that_record_no_prompts_is_not_explained_and_says_why(tmp_path):
    a, b = LMMS_EVAL(tmp_path / "a"), LMMS_EVAL(tmp_path / "b")
    (samples,) = b.parent.glob("*_samples_a_bench.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[0] |= {"acc": 0.0, "resps": ["B"], "filtered_resps": "B"}
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = json.loads(b.read_text())
    content["results"]["a_bench"]["acc,none"] -= 0.1
    b.write_text(json.dumps(content))
    found = explain([a, b], tasks=["a_bench"])
    parts = {part.name: part.size.value for part in found.parts if part.size.value}
    assert found.gap.value == pytest.approx(0.1) and parts == {"not explained": pytest.approx(0.1)}
    assert "prompt" in found.as_dict()["not_recorded"] and "Not recorded: " in found.as_text()


def test_hostile_replies_of_another_tool_are_shown_as_text(tmp_path):
    text = show(LMMS_EVAL(tmp_path / "a")).as_text()
    assert "reply: <script>alert" in text and "a_bench/1" in text


def test_a_lone_surrogate_in_a_reply_is_printed_as_its_escape(tmp_path, capsys):
    a = LMMS_EVAL(tmp_path / "a")
    (samples,) = a.parent.glob("*_samples_a_bench.jsonl")
    samples.write_text(samples.read_text().replace("<script>alert", "\\ud800"))
    assert main(["show", str(a), "--json"]) == 0
    assert "\ud800" in [one["answers"][0]["reply"] for one in json.loads(capsys.readouterr().out)["items"]]
    assert main(["show", str(a)]) == 0
    assert "⟨U+D800⟩" in capsys.readouterr().out


def test_tasks_whose_scores_are_no_fractions_are_left_out(tmp_path):
    a = LMMS_EVAL(tmp_path / "a")
    (samples,) = a.parent.glob("*_samples_a_bench.jsonl")
    samples.write_text("".join(json.dumps(json.loads(line) | {"acc": 7.5}) + "\n" for line in samples.read_text().splitlines()))
    with pytest.raises(UserError, match=r"a_bench of .*: its scores by item are not in 0 … 1"):
        explain([a, a], metric="acc")

"""`iit-bench arms` and `iit-bench eval --arms`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluators.arms.figures import arms_of
from evaluators.arms.names import ARMS
from iit_bench.cli import main
from iit_bench.numerals import points
from iit_bench.storage.runs import load_run

pytestmark = pytest.mark.slow


@pytest.fixture
def run(bench, tmp_path) -> Path:
    out = tmp_path / "run"
    assert main(["eval", "--model", "random", "--bench", str(bench.path), "--out", str(out), "--style", "letters", "--quiet"]) == 0
    return out


def test_arms_prints_a_row_per_arm_and_writes_their_folders(run, capsys):
    capsys.readouterr()
    assert main(["arms", str(run), "--arms", "blind, reordered", "--quiet"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line for line in shown.splitlines() if line.split()[:1] and line.split()[0] in ARMS}
    assert set(rows) == {"blind", "reordered"}
    for one in arms_of(load_run(run)):
        gap = one.pooled.difference
        assert points(gap.value) in rows[one.arm] and f" {gap.n} " in rows[one.arm]
    assert sorted(path.name for path in (run / "arms").iterdir()) == ["blind", "reordered"]


def test_json_has_every_figure(run, capsys):
    main(["arms", str(run), "--arms", "irrelevant", "--limit", "3", "--quiet"])
    capsys.readouterr()
    assert main(["arms", str(run), "--arms", "irrelevant", "--limit", "3", "--json", "--quiet"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["arms"]
    assert one["arm"] == "irrelevant" and one["pooled"]["difference"]["n"] == one["acc"]["n"] > 0
    assert {tier["over"] for tier in one["per_tier"]} <= {"T", "TT", "VT", "TTT", "TVT", "VTT", "VVT"}


def test_eval_prints_its_arms_after_the_run(bench, tmp_path, capsys):
    words = ["eval", "--model", "random", "--bench", str(bench.path), "--out", str(tmp_path / "run"), "--tiers", "V", "--arms", "blind"]
    assert main([*words, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "tier V" in shown and shown.index("tier V") < shown.index("Arms of run")
    assert main([*words, "--quiet", "--json"]) == 0
    assert "tiers" in json.loads(capsys.readouterr().out)
    header = load_run(tmp_path / "run").run
    assert "--arms blind" in header["command"] and header["arguments"]["arms"] == ["blind"]
    assert main(["eval", "--from", str(tmp_path / "run"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert (tmp_path / "again" / "arms" / "blind" / "results.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "sideways"], "there is no arm sideways"),
        (["--arms", "blind", "--limit", "0"], "--limit 0 leaves nothing to ask"),
        (["--bench", "nowhere"], "the benchmark 'nowhere' of run"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, words, message, capsys):
    assert main(["arms", str(run), *words, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("iit-bench: ") and message in line


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["arms", str(tmp_path), "--quiet"]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_list_names_every_arm(capsys):
    assert main(["list", "arms"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown and arm.changes in shown for name, arm in ARMS.items())

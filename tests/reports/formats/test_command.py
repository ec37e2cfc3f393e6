"""`iit-bench export` tells a benchmark from runs, and says what was written."""

from __future__ import annotations

import pytest

from iit_bench.cli import main


def test_the_command_writes_runs_and_lists_what_the_format_cannot_say(make_run, tmp_path, capsys):
    assert main(["export", str(make_run("a")), str(make_run("b")), "--to", "markdown", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "2 runs" in shown and "not in it: acc only" in shown
    assert (tmp_path / "out/leaderboard.md").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "croissant"], "--to croissant is for one benchmark folder"),
        (["--to", "csv", "--tiers", "T"], "--tiers is for a benchmark"),
    ],
)
def test_runs_take_no_format_and_no_option_of_a_benchmark(make_run, tmp_path, capsys, words, message):
    assert main(["export", str(make_run("a")), *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_benchmark_takes_no_format_and_no_option_of_runs(tmp_path, capsys):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/manifest.json").write_text("{}")
    for words, message in ((["--to", "csv"], "--to csv is for runs"), (["--to", "hub", "--source", "a"], "--source is for runs")):
        assert main(["export", str(tmp_path / "bench"), *words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def test_what_is_given_beside_a_benchmark_is_not_dropped_in_silence(tmp_path, capsys):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/manifest.json").write_text("{}")
    words = ["export", str(tmp_path / "bench"), str(tmp_path / "run"), "--to", "hub", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--to hub writes one benchmark folder at a time, and 2 paths are given" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

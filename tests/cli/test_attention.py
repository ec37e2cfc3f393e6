"""`iit-bench attention`: figures as words or JSON, and one sentence for what cannot be observed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluators.attention.table import FILE
from iit_bench.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "llava"
    words = ["eval", "--model", "llava", "--bench", str(bench.path), "--tiers", "V,TV", "--limit", "3", "--quiet", "--out", str(out)]
    assert main(words) == 0
    return out


def test_a_run_is_observed_into_its_folder_and_its_figures_are_printed(run: Path, capsys) -> None:
    assert main(["attention", str(run), "--quiet"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "llava: attention of the last prompt token over 8 layers"
    assert [line.split()[0] for line in printed[1:5]] == ["tier", "TV", "V", "all"] and (run / FILE).is_file()


def test_json_has_what_was_observed_and_every_figure(run: Path, capsys, tmp_path: Path) -> None:
    assert main(["attention", str(run), "--quiet", "--json", "--tiers", "V", "--out", str(tmp_path / "a.parquet")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["about"]["tiers"] == ["V"] and printed["pooled"]["shift"]["n"] == 3 and len(printed["curves"]["before"]) == 8


def test_the_recorded_command_repeats_the_observation(run: Path, capsys, tmp_path: Path) -> None:
    from evaluators.attention.table import load_observed

    assert main(["attention", str(run), "--quiet", "--out", str(tmp_path / "a.parquet")]) == 0
    first = load_observed(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").unlink()
    assert main([*first.about["command"].split()[1:], "--quiet"]) == 0
    assert load_observed(tmp_path / "a.parquet").rows == first.rows


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--model", "llava"], "--bench, --out is missing"),
        (["RUN", "--model", "wings"], "RUN is observed as it was asked; leave out --model"),
        (["RUN", "--tiers", "T"], "no chosen dialogue has an image"),
        (["nowhere"], "is not there"),
    ],
)
def test_what_cannot_be_observed_is_one_sentence(run: Path, capsys, words: list[str], sentence: str) -> None:
    assert main(["attention", *(str(run) if word == "RUN" else word for word in words), "--quiet"]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert sentence in printed[-1]

"""`--out .`, the folder that the command is started in: written into or refused, and neither replaced nor emptied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.cli.app import group

# Command → its words before `--out .`, and what the one sentence says where it is refused.
COMMANDS = {
    "build": ("build --size 2 --tiers T --match none", "is the folder you are in, which cannot be replaced"),
    "build --overwrite": ("build --size 2 --tiers T --match none --overwrite", "is the folder you are in, which cannot be replaced"),
    "export": ("export BENCH --to lm-eval", "is the folder you are in, which cannot be replaced"),
    "export of runs": ("export RUN --to csv", "is the folder you are in, which cannot be replaced"),
    "eval": ("eval --model random --bench BENCH --limit 2", "'.' is not a run folder (it has no run.json); choose a new or empty folder"),
    "attention": ("attention --model wings --bench BENCH --limit 1", None),
    "watch": ("watch EMPTY --bench BENCH --once", None),
    "report": ("report RUN", None),
    "train": ("train lab2-base --dry-run", None),
    "lab": ("lab quick --dry-run", None),
}
LONG = {"demo"}  # takes minutes; its three folders are a build's, an eval's and a report's


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "random"
    assert main(["eval", "--model", "random", "--bench", str(bench.path), "--out", str(out), "--limit", "2", "--quiet"]) == 0
    return out


def test_every_command_with_out_is_tried() -> None:
    have = {name for name, command in group().commands.items() if any("--out" in one.opts for one in command.params)}
    assert {words.split()[0] for words, _ in COMMANDS.values()} | LONG == have


@pytest.mark.parametrize("command", COMMANDS)
def test_the_folder_the_user_is_in_stays_and_keeps_its_files(bench, run, tmp_path, monkeypatch, capsys, command) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(here)
    before = here.stat().st_ino
    places = {"BENCH": bench.path, "RUN": run, "EMPTY": tmp_path / "empty"}
    words, refusal = COMMANDS[command]
    capsys.readouterr()
    code = main([*(str(places.get(word, word)) for word in words.split()), "--out", "."])
    error = capsys.readouterr().err.strip()
    assert (here / "mine.txt").read_text() == "mine" and Path(".").stat().st_ino == here.stat().st_ino == before
    if refusal is None:
        assert code == 0, error
        return
    assert code == 2 and "\n" not in error and refusal in error, error
    assert os.listdir(".") == ["mine.txt"] and sorted(os.listdir(tmp_path)) == ["empty", "here"]

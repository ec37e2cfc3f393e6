"""Two commands that write one folder: the second is refused before it has done anything, in a sentence that names the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_bench.cli import main
from tests.held_folder import held_elsewhere

COMMANDS = {
    "build": (["build", "--size", "1"], "beside"),
    "export": (["export", "BENCH", "--to", "lm-eval"], "beside"),
    "export-hub": (["export", "BENCH", "--to", "hub"], "beside"),
    "export-runs": (["export", "RUN", "--to", "csv"], "beside"),
    "eval": (["eval", "--bench", "BENCH", "--model", "random"], "in"),
    "attention": (["attention", "--bench", "BENCH", "--model", "wings"], "table"),
    "report": (["report", "RUN"], "in"),
    "train": (["train", "lab2-base"], "in"),
    "watch": (["watch", "CHECKPOINTS", "--bench", "BENCH", "--model", "hf:", "--once"], "in"),
    "demo": (["demo"], "in"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_command_is_refused_and_told_the_first(bench, tmp_path, capsys, command):
    words, how = COMMANDS[command]
    places = {"BENCH": bench.path, "RUN": tmp_path / "run", "CHECKPOINTS": tmp_path}
    out = tmp_path / "out"
    locked, how = (out / "attention.parquet", "beside") if how == "table" else (out, how)
    with held_elsewhere(locked, how) as first:
        code = main([*(str(places.get(word, word)) for word in words), "--out", str(out)])
        error = capsys.readouterr().err.strip()
        assert code == 2 and f"another process is writing {str(locked)!r} (process {first.pid} on " in error and "\n" not in error
    assert left(tmp_path) == []


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

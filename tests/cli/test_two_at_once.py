"""Two commands that write one folder: the second is refused before it has done anything, in a sentence that names the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iit_bench.cli import commands, main
from tests.held_folder import held_elsewhere

# Command → its words, the place that it writes (RUN is a finished run), and where the lock of that lies.
COMMANDS = {
    "build": ("build --size 1 --out OUT", "OUT", "beside"),
    "export": ("export BENCH --to lm-eval --out OUT", "OUT", "beside"),
    "export-hub": ("export BENCH --to hub --out OUT", "OUT", "beside"),
    "export-runs": ("export RUN --to csv --out OUT", "OUT", "beside"),
    "fetch": ("fetch POPE --data-root OUT", "OUT", "in"),
    "eval": ("eval --bench BENCH --model random --out OUT", "OUT", "in"),
    "eval-all": ("eval --suite all --bench BENCH --model wings --out OUT", "OUT/vqa", "in"),
    "arms": ("arms RUN", "RUN/arms/reordered", "in"),
    "arms-of-a-run": ("arms RUN", "RUN", "in"),
    "attention": ("attention --bench BENCH --model wings --out OUT", "OUT/attention.parquet", "beside"),
    "merge": ("merge RUN", "RUN", "in"),
    "report": ("report RUN --out OUT", "OUT", "in"),
    "train": ("train lab2-base --out OUT", "OUT", "in"),
    "watch": ("watch EMPTY --bench BENCH --model hf: --once --out OUT", "OUT", "in"),
    "demo": ("demo --out OUT", "OUT", "in"),
}
NOTHING = {"plan", "compare", "show", "diff", "explain", "verify", "list"}  # is written by these
SHARED = {"lab", "submit"}  # several processes work in a folder of `lab` (tests/lab); submitit gives each file a name of its own


def test_every_command_that_writes_is_tried():
    assert {words.split()[0] for words, _, _ in COMMANDS.values()} == set(commands.COMMANDS) - NOTHING - SHARED


def test_after_ctrl_c_only_commands_that_write_nothing_say_so():
    """`report`, `merge` and `submit` said so whose files, or tasks, may be there."""
    assert {name for name, (*_, left) in commands.COMMANDS.items() if left == commands.NOTHING} == NOTHING


@pytest.fixture(scope="module")
def finished(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "majority"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(out), "--limit", "2", "--quiet"]) == 0
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_command_is_refused_and_told_the_first(bench, finished, tmp_path, capsys, command):
    places = {"BENCH": bench.path, "RUN": tmp_path / "run", "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    shutil.copytree(finished, places["RUN"])
    places["EMPTY"].mkdir()
    words, where, how = COMMANDS[command]
    place, _, below = where.partition("/")
    locked, before = places[place] / below, left(tmp_path)
    with held_elsewhere(locked, how) as first:
        code = main([str(places.get(word, word)) for word in words.split()])
        error = capsys.readouterr().err.strip()
        assert code == 2 and f"another process is writing {str(locked)!r} (process {first.pid} on " in error and "\n" not in error, error
    assert left(tmp_path) == before


def left(folder: Path) -> dict[str, bytes | None]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}

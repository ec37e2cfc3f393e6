"""No command adds its files to a folder that another one has made, or to a model: it is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_bench.cli import commands, main
from iit_bench.data import fetched
from iit_bench.storage.other_kinds import KINDS
from iit_bench.training.recipe import KEPT
from iit_bench.training.train import CARD
from reports.folder import LIST

# Commands that add files to a folder, with the kinds that they may add to.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fetch": ("fetch POPE --data-root OUT", ("data root",)),
    "fetch --dry-run": ("fetch POPE --data-root OUT --dry-run", ("data root",)),
    "eval": ("eval --bench BENCH --model random --out OUT", ("run",)),
    "eval of several": ("eval --bench BENCH --model random,majority --out OUT", ()),
    "eval --suite all": ("eval --suite all --bench BENCH --model wings --out OUT", ()),
    "watch": ("watch EMPTY --bench BENCH --model hf: --once --out OUT", ()),
    "attention": ("attention --bench BENCH --model wings --limit 1 --out OUT", ("run",)),
    "report": ("report RUN --out OUT", ("report", "demo", "lab")),
    "train": ("train lab2-base --out OUT", ("training",)),
    "train --dry-run": ("train lab2-base --out OUT --dry-run", ("training",)),
    "train --check-data": ("train lab2-base --out OUT --check-data", ("training",)),
    "demo": ("demo --limit 1 --out OUT", ("demo",)),
    "lab": ("lab quick --max-cells 1 --out OUT", ("lab",)),
    "lab --dry-run": ("lab quick --dry-run --out OUT", ("lab",)),
    "submit": ("submit --logs OUT eval --bench BENCH --model random --out EMPTY", ()),
}
REPLACE = {"build", "export"}  # a folder as a whole (`whole_folders.check_target`)
IN_RUNS = {"arms", "merge"}  # add to the run that they are given
NOTHING = {"plan", "compare", "show", "diff", "explain", "verify", "list"}  # is written by these


def test_every_command_that_adds_to_a_folder_is_tried() -> None:
    assert {words.split()[0] for words, _ in COMMANDS.values()} == set(commands.COMMANDS) - REPLACE - IN_RUNS - NOTHING


def test_kinds_are_told_by_the_files_that_each_command_writes() -> None:
    written = {"data root": fetched.MANIFEST, "report": LIST, "training": CARD}
    assert all(name in KINDS[kind] for kind, name in written.items()) and KEPT in KINDS["training"]


@pytest.mark.parametrize(
    ("command", "kind"), [(command, kind) for command, (_, own) in COMMANDS.items() for kind in KINDS if kind not in own]
)
def test_a_folder_of_another_kind_is_refused_and_left_as_it_is(bench, tmp_path: Path, capsys, command: str, kind: str) -> None:
    words, _ = COMMANDS[command]
    places = {"BENCH": bench.path, "RUN": tmp_path / "run", "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    mark = KINDS[kind][0].replace("*", "one")
    file = places["OUT"] / mark
    file.parent.mkdir(parents=True)
    places["EMPTY"].mkdir()
    file.write_text("{}")
    assert main([str(places.get(word, word)) for word in words.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert repr(str(places["OUT"])) in error and "\n" not in error, error
    assert f"holds {mark} of a {kind}, and no " in error or (command == "eval" and "not a run folder" in error), error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file] and file.read_text() == "{}"


@pytest.mark.parametrize("words", ["demo --out FILE", "lab quick --dry-run --out FILE", "train lab2-base --dry-run --out FILE"])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, capsys, words: str) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file") if word == "FILE" else word for word in words.split()]) == 2
    assert f"cannot write {str(tmp_path / 'file')!r}: it is a file, not a folder; " in capsys.readouterr().err

"""A folder that reports are written into again and again: theirs are removed, what no report wrote is kept."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from iit_bench.errors import UserError
from reports.folder import LIST, ReportFolder, foreign_files, is_under_way, sums, writing
from tests.full_disk import files_of_at_most


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path, *names: str, ends: bool = True) -> None:
    """A report of so many files; one that does not end was killed."""
    made = ReportFolder(folder)
    for name in names:
        (made.put if name.startswith("samples/") else made.write)(name, name.encode())
    if ends:
        made.tidy()


FIRST = ("models/old.html", "figures/model-old-arms.svg", "samples/data/r0.js", "samples/index.html", "index.html")


def test_what_the_next_report_does_not_write_is_removed_with_its_empty_folders(tmp_path: Path) -> None:
    written(tmp_path, *FIRST)
    written(tmp_path, "models/new.html", "index.html")
    assert files(tmp_path) == {"models/new.html", "index.html", LIST}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["models", "index.html", LIST])


def test_the_list_of_a_whole_report_has_the_sha256_of_its_files_as_sha256sum_reads_it(tmp_path: Path) -> None:
    written(tmp_path, *FIRST)
    assert sums(tmp_path) == {name: hashlib.sha256(name.encode()).hexdigest() for name in FIRST}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", LIST], cwd=tmp_path, check=True)
    path = tmp_path / LIST
    path.write_text(path.read_text().replace("index.html", "about.html"))
    with pytest.raises(ValueError, match="was changed"):
        sums(tmp_path)


def test_an_empty_list_is_damaged(tmp_path: Path) -> None:
    """The trial of damage found it: `verify` called such a report whole."""
    (tmp_path / LIST).write_bytes(b"")
    with pytest.raises(ValueError, match="it is empty"):
        sums(tmp_path)


def test_a_list_of_names_has_no_sums(tmp_path: Path) -> None:
    written(tmp_path, *FIRST, ends=False)
    assert sums(tmp_path) is None


def test_foreign_files_are_kept_and_counted(tmp_path: Path) -> None:
    for name in ("notes.txt", "models/old.html.bak", "own/deep/file.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    written(tmp_path, *FIRST)
    written(tmp_path, "index.html")
    assert files(tmp_path) == {"notes.txt", "models/old.html.bak", "own/deep/file.txt", "index.html", LIST}
    assert foreign_files(tmp_path) == 2  # a folder of the user's is not looked into
    assert foreign_files(tmp_path / "not-there") == 0


@pytest.mark.parametrize("name", ["index.html", "models/random.html", "samples/data/r0.js"])
def test_a_file_of_the_users_with_the_name_of_a_reports_is_not_lost(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    for _ in range(2):  # a refused report has not put its name on the list
        with pytest.raises(UserError, match=f"{name}' was written by no report, and would be lost; move it"):
            written(tmp_path, name)
    assert (tmp_path / name).read_text() == "mine"


def test_an_index_of_the_users_is_found_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UserError, match="was written by no report"), writing(tmp_path):
        raise AssertionError("was entered")
    assert files(tmp_path) == {"index.html"}


def test_after_a_report_that_was_killed_the_next_one_knows_both(tmp_path: Path) -> None:
    written(tmp_path, *FIRST)
    written(tmp_path, "models/halfway.html", "figures/model-halfway-curve.svg", ends=False)
    assert foreign_files(tmp_path) == 0
    written(tmp_path, "index.html")
    assert files(tmp_path) == {"index.html", LIST}


def test_a_report_that_was_killed_before_it_wrote_a_listed_file_is_no_obstacle(tmp_path: Path) -> None:
    ReportFolder(tmp_path).keep("models/never.html")
    written(tmp_path, "index.html")
    assert files(tmp_path) == {"index.html", LIST}


@pytest.mark.parametrize("name", ["../outside.html", "/etc/name", "run.json", "models/../../outside.html", "models/.hidden", "notes.txt"])
def test_a_list_that_names_what_no_report_writes_removes_nothing(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / "models").mkdir(parents=True)
    for file in (tmp_path / "outside.html", out / "run.json", out / "models" / ".hidden", out / "notes.txt"):
        file.write_text("mine")
    (out / LIST).write_text(f"{name}\n")
    before = files(tmp_path)
    written(out, "index.html")
    assert files(tmp_path) == before | {"out/index.html"}


def test_the_list_of_samples_of_earlier_versions_is_taken(tmp_path: Path) -> None:
    (tmp_path / "samples" / "data").mkdir(parents=True)
    for name in ("r0.js", "mine.txt"):
        (tmp_path / "samples" / "data" / name).write_text("")
    (tmp_path / "samples" / "files.txt").write_text("data/r0.js\n")
    written(tmp_path, "index.html")
    assert files(tmp_path) == {"samples/data/mine.txt", "index.html", LIST}


def test_a_report_is_under_way_from_its_first_file_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with its index written, and also over an earlier report with the same files, which adds no name to the list."""
    assert not is_under_way(tmp_path)
    for _ in range(2):
        written(tmp_path, *FIRST, ends=False)
        assert is_under_way(tmp_path)
        written(tmp_path, *FIRST)
        assert not is_under_way(tmp_path)
    with writing(tmp_path):
        assert capsys.readouterr().err == ""
    written(tmp_path, *FIRST, ends=False)
    with writing(tmp_path) as folder:
        assert capsys.readouterr().err == (
            f"iit-bench: a report into {str(tmp_path)!r} was stopped before its end; this one replaces what it left\n"
        )
        for name in FIRST:
            folder.write(name, "new")
        folder.tidy()
    with writing(tmp_path):
        assert capsys.readouterr().err == "" and sums(tmp_path)


@pytest.mark.parametrize("name", ["models/old.html", "samples/data/r0.js"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    """A script of the explorer was torn where the disk was full."""
    written(tmp_path, name)
    made = ReportFolder(tmp_path)
    made.keep(name)
    with files_of_at_most(1000), pytest.raises(UserError, match="free some space"):
        (made.put if name.startswith("samples/") else made.write)(name, b"x" * 2000)
    assert (tmp_path / name).read_text() == name
    assert not [path for path in files(tmp_path) if ".partial" in path]


def test_a_name_that_a_full_disk_cut_off_spoils_no_later_one(tmp_path: Path) -> None:
    """The next name was written behind it, on its line: the file of that name then was of no report, and in the way of all later ones."""
    written(tmp_path, "models/old.html", ends=False)
    with (tmp_path / LIST).open("a") as file:
        file.write("models/ot")
    written(tmp_path, "index.html", ends=False)
    written(tmp_path, "index.html")
    assert files(tmp_path) == {"index.html", LIST}


def test_a_file_that_is_not_as_the_earlier_report_wrote_it_is_not_taken_over(tmp_path: Path) -> None:
    """A picture of the explorer that was torn or changed was taken over, and the new list then had the sha256 of the damaged one."""
    picture = "samples/images/a.png"
    written(tmp_path, picture, "index.html")
    assert not ReportFolder(tmp_path).keep_unchanged(picture, b"changed")
    written(tmp_path, "index.html", ends=False)  # what was begun since does not matter
    made = ReportFolder(tmp_path)
    assert made.keep_unchanged(picture, picture.encode()) and picture in made.names
    (tmp_path / LIST).write_text((tmp_path / LIST).read_text().replace("a.png", "b.png"))
    assert not ReportFolder(tmp_path).keep_unchanged("samples/images/b.png", picture.encode())

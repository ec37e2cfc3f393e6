"""Paths that data name lead to something below their root, or are refused: by words, by links, in the Hub's cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from iit_bench.data.fetched import FetchedFile, FetchedSet, load_sets, save_sets
from iit_bench.errors import ItemError, UserError
from iit_bench.storage.benchmark import load_benchmark, save_benchmark
from iit_bench.storage.inside import OutsideError, file_inside, inside, stays_inside
from iit_bench.storage.run_files import check_file
from iit_bench.training.chats import pictures
from iit_bench.training.chats.schemas import Picture
from tests.resealed import reseal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """root/a/b.png, and links: to itself, to a file and to a folder outside, to a file inside."""
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/b.png").write_bytes(b"mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.png").write_bytes(b"secret")
    (tmp_path / "root/link.png").symlink_to(tmp_path / "elsewhere/c.png")
    (tmp_path / "root/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/own.png").symlink_to("a/b.png")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside/d.png").write_bytes(b"secret")
    return tmp_path / "root"


OUTSIDE = [
    "../elsewhere/c.png",
    "a/../../elsewhere/c.png",
    "/etc/hostname",
    "link.png",
    "folder/c.png",
    "../root-beside/d.png",
    "",
    ".",
    "a\0b",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_of_the_root_is_refused(root, name):
    with pytest.raises(OutsideError):
        inside(root, name)


@pytest.mark.parametrize("name", ["a/b.png", "./a/b.png", "a/../a/b.png", "own.png"])
def test_what_leads_to_a_file_below_the_root_is_its_real_path(root, name):
    assert file_inside(root, name) == root.resolve() / "a/b.png"
    assert file_inside(root, str(root / name)) == root.resolve() / "a/b.png"  # an absolute path into the root


def test_a_root_that_is_a_link_is_its_target(root):
    (root.parent / "link").symlink_to(root)
    assert file_inside(root.parent / "link", "a/b.png") == root.resolve() / "a/b.png"


@pytest.mark.parametrize("name", ["a", "none.png", "x" * 300])
def test_no_file_is_no_error(root, name):
    assert file_inside(root, name) is None


def test_files_of_the_hubs_cache_are_links_into_its_blobs(root, tmp_path):
    snapshot = tmp_path / "hub/datasets--o--n/snapshots/0123"
    blobs = snapshot.parent.parent / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "f00").write_bytes(b"picture")
    (snapshot / "p.png").symlink_to("../../blobs/f00")
    (snapshot / "q.png").symlink_to(tmp_path / "elsewhere/c.png")
    assert file_inside(snapshot, "p.png") == blobs.resolve() / "f00"
    with pytest.raises(OutsideError):
        inside(snapshot, "q.png")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b", True), ("main/..x", True), ("../a", False), ("/a", False), ("a//b", False), ("a\\..\\b", False), ("", False)],
)
def test_names_in_listings_are_judged_by_their_words(name, expected):
    assert stays_inside(name) is expected


# ---------------------------------------------------------------- at each border


@pytest.mark.parametrize("name", ["../elsewhere/c.png", "link.png", "folder/c.png", ""])
def test_a_chats_image_outside_its_folder_is_refused(root, name):
    with pytest.raises(ItemError) as refused:
        pictures.Folder(root, 10_000).load(Picture(path=name, data=None))
    assert refused.value.reason == pictures.OUTSIDE


@pytest.mark.parametrize("name", ["../../elsewhere/c.png", "/etc/hostname", "questions/../../x"])
def test_a_benchmarks_manifest_that_lists_a_file_elsewhere_is_refused(tmp_path, name):
    bench = save_benchmark(tmp_path / "bench", [], [], {"name": "mine"}, "# card\n")
    manifest = json.loads((bench / "manifest.json").read_text())
    reseal(bench / "manifest.json", manifest | {"files": {**manifest["files"], name: "0" * 64}})
    with pytest.raises(UserError, match="which leads out of the folder"):
        load_benchmark(bench)


def test_a_benchmarks_table_that_is_a_link_elsewhere_is_refused(tmp_path):
    bench = save_benchmark(tmp_path / "bench", [], [], {"name": "mine"}, "# card\n")
    table = next((bench / "questions").iterdir())
    table.rename(tmp_path / "elsewhere.parquet")
    table.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UserError, match="which leads out of the folder"):
        load_benchmark(bench)


def test_a_data_roots_listing_of_files_elsewhere_is_refused(tmp_path):
    (tmp_path / "precious").write_text("mine")
    listed = FetchedSet(source="", revision="", ref="", licence="")
    listed.files["../precious"] = FetchedFile(size=4, sha256="0" * 64, checked="")
    save_sets(tmp_path / "data", {"o/n": dataclasses.replace(listed)})
    with pytest.raises(UserError, match="lies outside the data root"):
        load_sets(tmp_path / "data")


def test_a_file_of_an_earlier_revision_behind_a_link_is_kept(root):
    from evaluators.fetch.fetch import _remove

    with pytest.raises(UserError, match="lies elsewhere by a link; remove it by hand"):
        _remove(root, "folder/c.png")
    _remove(root, "link.png")  # the link itself
    _remove(root, "a/b.png")
    assert (root.parent / "elsewhere/c.png").read_bytes() == b"secret"
    assert not (root / "a/b.png").exists() and not (root / "link.png").is_symlink()


@pytest.mark.parametrize("name", ["../elsewhere/c.png", "/etc/hostname", "link.png", "folder/c.png"])
@pytest.mark.parametrize("record", [{}, {"files": {}}])
def test_no_file_of_a_run_leads_out_of_its_folder(root: Path, name: str, record: dict[str, object]) -> None:
    """Names of data sets and of the tool's files come from the run's own JSON, which somebody else may have written."""
    (root / "run.json").write_text("{}")
    with pytest.raises(UserError, match="leads out of the folder of its run"):
        check_file(root, record, root / name)
    check_file(root, {}, root / "own.png")

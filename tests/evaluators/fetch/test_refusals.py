"""What `iit-bench fetch` refuses, in one sentence each, and asks before."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

import pytest

from iit_bench.data.fetched import load_sets
from iit_bench.storage.inside import stays_inside
from tests.full_disk import files_of_at_most, permissions_that_count
from tests.held_folder import held_elsewhere

needs_vlmeval = pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")


@pytest.mark.slow
@needs_vlmeval
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["wings_text"], "did you mean 'wings-text'?"),
        (["MMBench_DEV_ENN"], "did you mean 'MMBench_DEV_EN'?"),
        (["mme"], "did you mean 'MME'?"),
        (["vlmeval:MEM"], "called 'MEM'; did you mean 'MME'?"),
        ([""], "no task is named; name a preset, tasks or tables"),
    ],
)
def test_a_wrong_name_is_reported_with_the_nearest(server, run, root, names, said):
    code, _, err = run(*names)
    assert code == 2 and err.count("\n") == 1 and said in err
    assert not root.exists()


def test_a_data_root_that_cannot_be_written(server, run, root):
    root.write_text("a file")
    code, _, err = run("piqa")
    assert code == 2 and f"cannot write {str(root)!r}" in err and "is a file, not a folder" in err and err.count("\n") == 1


def test_two_at_once_are_refused(server, run, root):
    with held_elsewhere(root) as first:
        code, _, err = run("piqa")
    assert code == 2 and f"another process is writing {str(root)!r} (process {first.pid} on " in err and "another --data-root" in err


def test_a_file_of_the_users_own_is_never_replaced(server, run, root):
    path = root / "baber/piqa/data/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    code, _, err = run("piqa")
    assert code == 2 and f"{str(path)!r} exists and is not the published file; move it away" in err
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("status", "error", "code", "said"),
    [
        (404, "RepoNotFound", 2, "the Hub has no data set 'baber/piqa', or you have no access to it; check its name, or log in"),
        (401, "RepoNotFound", 2, "the Hub has no data set 'baber/piqa'"),
        (403, "GatedRepo", 2, "asks for consent; give it on http"),
        (500, "", 1, "the Hub answers 500 for data set 'baber/piqa': repeat the command later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(server, run, status, error, code, said):
    server.refused["baber/piqa"] = (status, error)
    got, _, err = run("piqa")
    assert got == code and err.count("\n") == 1 and said in err


PINNED = """task: my_{name}
dataset_path: baber/piqa
dataset_kwargs: {{revision: {revision}}}
test_split: validation
output_type: multiple_choice
doc_to_text: "{{{{goal}}}}"
"""


def test_a_revision_that_a_task_pins_is_kept_to(server, run, root, tmp_path):
    for name, revision in (("a", "f" * 40), ("b", server.commit("baber/piqa"))):
        (tmp_path / f"my_{name}.yaml").write_text(PINNED.format(name=name, revision=revision))
    own = ("--include-path", str(tmp_path))
    code, _, err = run("my_a", "my_b", *own)
    assert code == 2 and "asks for revision" in err and "fetch them into different folders" in err and err.count("\n") == 1
    assert run("my_b", *own)[0] == 0
    code, _, err = run("my_a", *own)
    assert code == 2 and f"asks for revision '{'f' * 40}' of 'baber/piqa', and {str(root)!r} has" in err
    assert run("my_b", *own)[0] == 0


@pytest.mark.parametrize("copied", [False, True])
def test_a_split_that_nobody_publishes(server, run, published, tmp_path, copied):
    server.repositories = tmp_path / "hub"
    shutil.copytree(published / "hub/openai", tmp_path / "hub/openai")
    (tmp_path / "hub/openai/gsm8k/main/test-00000-of-00001.parquet").unlink()
    if copied:
        (tmp_path / "copy").mkdir()
        server.converted["openai/gsm8k"] = tmp_path / "copy"
    code, _, err = run("gsm8k")
    assert code == 2 and "'openai/gsm8k' has no parquet, json or csv file of split 'test' of configuration 'main'" in err


@pytest.mark.parametrize("path", ["/etc/passwd", "main/../../x.parquet", "..", "a//b", "a\\..\\b"])
def test_a_name_that_leads_out_of_the_data_root_is_not_a_file_of_the_repository(path):
    assert not stays_inside(path) and stays_inside("main/..x/test-00000-of-00001.parquet")


def test_a_damaged_fetched_json(server, run, root):
    root.mkdir()
    (root / "fetched.json").write_text('{"format": "iit-bench/snapshots", "vers')
    code, _, err = run("piqa")
    assert code == 2 and "is not what `iit-bench fetch` wrote" in err


def test_more_than_a_gigabyte_needs_a_yes(server, run, root, monkeypatch):
    monkeypatch.setattr("evaluators.fetch.fetch.ASK_ABOVE", 100)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    code, out, err = run("piqa")
    assert code == 2 and "baber/piqa" in out and "repeat the command with --yes to agree" in err
    assert server.files_sent() == []
    assert run("piqa", "--yes")[0] == 0


@needs_vlmeval
def test_what_has_no_known_size_needs_a_yes_too(server, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    server.no_head = True
    code, out, err = run("MME")
    assert code == 2 and "size unknown" in out and "the download is of unknown size, and there is no terminal to ask" in err
    assert run("MME", "--yes")[0] == 0


def test_a_disk_that_is_too_small_is_reported_before(server, run):
    server.harm("train-00000-of-00001.parquet", size=10**18)
    code, _, err = run("piqa", "--yes")
    assert code == 2 and "1000000000.0 GB are to be fetched, and the disk of" in err and server.files_sent() == []


FILES = {
    "cais/mmlu": ("README.md", "anatomy/dev-00000-of-00001.parquet", "anatomy/test-00000-of-00001.parquet"),
    "openai/gsm8k": ("README.md", "main/test-00000-of-00001.parquet", "main/train-00000-of-00001.parquet"),
}


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(server, run, root, published):
    """Whichever file meets it first: the probe, a small file, data, fetched.json."""
    files = [published / "hub" / name / one for name, ones in FILES.items() for one in ones]
    for size in (0, 50, 400, max(path.stat().st_size for path in files) - 1):
        with files_of_at_most(size):
            code, _, err = run("gsm8k", "mmlu_anatomy", "--yes")
        assert code in (1, 2) and err.startswith("iit-bench: cannot write ") and "free some space" in err and err.count("\n") == 1, err
        assert not list(root.rglob(".lock")) and not list(root.rglob(".probe"))
    assert run("gsm8k", "mmlu_anatomy", "--yes")[0] == 0
    assert not list(root.rglob("*.partial"))
    assert {name: len(one.files) for name, one in load_sets(root).items()} == {name: len(ones) for name, ones in FILES.items()}
    assert all((root / path.relative_to(published / "hub")).read_bytes() == path.read_bytes() for path in files)


@pytest.mark.skipif(sys.platform != "linux", reason="root is asked to give up what opens every folder")
def test_a_folder_in_the_data_root_that_is_closed_is_one_sentence(server, run, root):
    (root / "openai").mkdir(parents=True)
    (root / "openai").chmod(0o555)
    with permissions_that_count():
        code, _, err = run("gsm8k", "--yes")
    assert code == 1 and err.startswith(
        f"iit-bench: cannot write '{root}/openai/gsm8k/README.md' (Permission denied): change its permissions"
    )
    assert err.count("\n") == 1
    (root / "openai").chmod(0o755)
    assert run("gsm8k", "--yes")[0] == 0

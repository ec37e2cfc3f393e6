"""`iit-bench fetch` from the command line to the data root, and evaluation from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from builders.sources.base import SourceOptions, load_source
from evaluators.text.tasks import TaskOptions, load_tasks
from evaluators.vqa.datasets import parts_of
from iit_bench.data.fetched import load_sets
from iit_bench.errors import UserError
from iit_bench.tools.vlmevalkit import kit
from tests.resealed import reseal

pytestmark = pytest.mark.slow

needs_vlmeval = pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")


def files_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}


# ---------------------------------------------------------------- what arrives


def test_revision_licence_and_size_are_listed_before_anything_is_fetched(server, run, root, published):
    code, out, _ = run("mmlu_anatomy", "--dry-run")
    size = sum((published / "hub/cais/mmlu" / name).stat().st_size for name in MMLU)
    assert code == 0
    assert out.splitlines()[0].split() == ["data", "set", "revision", "licence", "files", "to", "fetch"]
    assert out.splitlines()[1].split() == ["cais/mmlu", server.commit("cais/mmlu")[:12], "mit", "3", f"{size / 1000:.1f}", "kB"]
    assert out.splitlines()[2] == f"to fetch into {str(root)!r}: {size / 1000:.1f} kB in 3 files"
    assert not server.files_sent() and files_in(root) == set()


MMLU = ("README.md", "anatomy/dev-00000-of-00001.parquet", "anatomy/test-00000-of-00001.parquet")


def test_what_a_task_needs_is_fetched_and_nothing_else(server, run, root, published):
    code, out, _ = run("mmlu_anatomy", "gsm8k")
    assert code == 0 and f"Complete and verified: {root} (2 of the data sets" in out
    gsm8k = {"openai/gsm8k/README.md"} | {f"openai/gsm8k/main/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    assert files_in(root) == {f"cais/mmlu/{name}" for name in MMLU} | gsm8k | {"fetched.json"}
    for name in files_in(root) - {"fetched.json"}:
        assert (root / name).read_bytes() == (published / "hub" / name).read_bytes()


def test_fetched_json_records_what_each_file_is(server, run, root):
    run("mmlu_anatomy")
    one = load_sets(root)["cais/mmlu"]
    told = (one.source, one.revision, one.ref, one.licence)
    assert told == (f"{server.url}/datasets/cais/mmlu", server.commit("cais/mmlu"), "main", "mit")
    assert one.splits == {"anatomy": {"test": (f"cais/mmlu/{MMLU[2]}",), "dev": (f"cais/mmlu/{MMLU[1]}",)}}
    assert {name: file.checked for name, file in one.files.items()} == {
        "cais/mmlu/README.md": "git sha1",
        f"cais/mmlu/{MMLU[1]}": "sha256",
        f"cais/mmlu/{MMLU[2]}": "sha256",
    }
    for name, file in one.files.items():
        done = subprocess.run(["sha256sum", str(root / name)], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == file.sha256


def test_a_second_call_asks_nobody(server, run, root):
    run("mmlu_anatomy", "piqa")
    before = (root / "fetched.json").read_bytes()
    server.requests.clear()
    code, out, _ = run("mmlu_anatomy", "piqa")
    assert code == 0 and "to fetch into" in out and out.splitlines()[-2].endswith(": nothing")
    assert server.requests == []
    assert (root / "fetched.json").read_bytes() == before


def test_as_json(server, run):
    code, out, err = run("piqa", "--json")
    assert code == 0 and "baber/piqa" in err
    assert json.loads(out)["baber/piqa"]["ref"] == "main"


def test_a_data_set_published_otherwise_is_taken_from_the_hubs_parquet_copy(server, run, root, published, tmp_path):
    server.repositories = tmp_path / "hub"
    (tmp_path / "hub/baber/piqa").mkdir(parents=True)
    (tmp_path / "hub/baber/piqa/piqa.py").write_text("a loading script")
    (tmp_path / "hub/baber/piqa/README.md").write_text("---\nlicense: afl-3.0\n---\nThe copy has no card.\n")
    copy = tmp_path / "copy/plain_text"
    for split in ("train", "validation"):
        (copy / split).mkdir(parents=True)
        shutil.copy(published / f"hub/baber/piqa/data/{split}-00000-of-00001.parquet", copy / split / "0000.parquet")
    server.converted["baber/piqa"] = tmp_path / "copy"
    assert run("piqa")[0] == 0
    assert (load_sets(root)["baber/piqa"].ref, load_sets(root)["baber/piqa"].licence) == ("refs/convert/parquet", "afl-3.0")
    assert files_in(root) == {f"baber/piqa/plain_text/{split}/0000.parquet" for split in ("train", "validation")} | {"fetched.json"}
    assert len(load_tasks(["piqa"], TaskOptions(data_root=root), tmp_path / "scratch").loaded["tasks"]["piqa"].eval_docs) == 6


@needs_vlmeval
def test_tables_arrive_with_vlmevalkits_checksum(server, run, root, published):
    code, out, _ = run("MME", "vlmeval:AI2D_TEST")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[1:3]] == ["unknown", "CC-BY-SA-4.0"]
    assert files_in(root) == {"LMUData/MME.tsv", "LMUData/AI2D_TEST.tsv", "fetched.json"}
    assert (root / "LMUData/MME.tsv").read_bytes() == (published / "tables/MME.tsv").read_bytes()
    one = load_sets(root)["MME"]
    assert one.files["LMUData/MME.tsv"].checked == "md5" and len(one.revision) == 32
    server.requests.clear()
    assert run("MME")[0] == 0 and server.requests == []


@needs_vlmeval
def test_names_that_need_nothing_say_so(server, run, root):
    code, out, _ = run("easyvqa", "iit_facts_capital")
    assert code == 0
    assert out.splitlines()[:2] == [f"{name}: comes with iit-bench: nothing to fetch" for name in ("easyvqa", "iit_facts_capital")]
    assert server.requests == []


def test_the_labs_presets_need_nothing(server, run, root):
    code, out, _ = run("lab", "lab2")
    assert code == 0 and server.requests == []
    names = {line.partition(":")[0] for line in out.splitlines() if line.endswith("nothing to fetch")}
    assert names == {"facts", "two-hop", "easyvqa", "digits", "flags", "flag-facts"}


def test_a_task_of_ones_own_is_fetched_by_its_name(server, run, root, tmp_path):
    own = {"task": "mine", "dataset_path": "baber/piqa", "output_type": "generate_until", "validation_split": "validation"}
    own |= {"doc_to_text": "goal", "doc_to_target": "sol1", "fewshot_config": {"samples": []}}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.yaml").write_text(json.dumps(own))
    assert run("mine", "--include-path", str(tmp_path / "tasks"))[0] == 0
    assert {name for name in files_in(root) if name.endswith(".parquet")} == {"baber/piqa/data/validation-00000-of-00001.parquet"}


# ---------------------------------------------------------------- killed, broken, flipped


FETCH = "import sys; from iit_bench.cli import main; sys.exit(main(sys.argv[1:]))"


def test_killed_in_the_middle_the_same_command_resumes(server, run, root):
    """Killed for good, in the middle of a file, by the system's signal; the bytes that were there are not fetched again."""
    name = "train-00000-of-00001.parquet"
    server.harm(name, stop_after=1000, times=1, wait=(goes_on := threading.Event()))
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", FETCH, "fetch", "gsm8k", "--data-root", str(root), "--quiet"]
    with subprocess.Popen(words, env=environment) as process:
        while not (there := list(root.rglob(f".{name}.*.partial"))) or there[0].stat().st_size < 1000:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    goes_on.set()
    assert process.returncode == -signal.SIGKILL and not (root / "fetched.json").exists()
    server.requests.clear()
    assert run("gsm8k")[0] == 0
    asked = {path.rpartition("/")[2]: asked for _, path, asked in server.requests}
    assert asked[name] == "bytes=1000-"
    assert "test-00000-of-00001.parquet" not in asked  # it was whole
    assert not list(root.rglob("*.partial"))
    assert len(load_sets(root)["openai/gsm8k"].files) == 3


def test_a_connection_that_breaks_off_for_good_is_one_sentence_and_the_same_command_resumes(server, run, root, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    name = "train-00000-of-00001.parquet"
    server.harm(name, stop_after=0)
    code, _, err = run("gsm8k")
    assert code == 1 and err.count("\n") == 1
    assert f"{name} cannot be fetched (" in err and "what arrived is kept; repeat the command to resume" in err
    server.trouble.clear()
    assert run("gsm8k")[0] == 0


def test_a_flipped_byte_on_the_way_is_one_sentence(server, run, root):
    server.harm("test-00000-of-00001.parquet", flip=True)
    code, _, err = run("gsm8k")
    assert code == 2 and err.count("\n") == 1
    assert "test-00000-of-00001.parquet' does not have the sha256 that its publisher states" in err
    server.trouble.clear()
    assert run("gsm8k")[0] == 0


def test_a_file_changed_on_disk_is_refused_by_evaluation_and_fetched_again(server, run, root, tmp_path):
    run("piqa")
    path = root / "baber/piqa/data/validation-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        UserError, match=r"validation-00000-of-00001.parquet' was changed after it was fetched \(its sha256 differs\); delete"
    ):
        load_tasks(["piqa"], TaskOptions(data_root=root), tmp_path / "scratch")
    code, out, _ = run("piqa")
    assert code == 0 and f"{path.relative_to(root)} was changed after it was fetched and is fetched again" in out
    assert path.read_bytes() == whole


@needs_vlmeval
def test_a_table_changed_on_disk_is_refused_by_evaluation(server, run, root, tmp_path, monkeypatch):
    run("MME")
    with (root / "LMUData/MME.tsv").open("a") as table:
        table.write("\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    with kit() as vlmeval, pytest.raises(UserError, match=r"MME.tsv' was changed after it was fetched \(its sha256 differs\)"):
        parts_of("MME", str(root), None, vlmeval)


def test_a_connection_that_is_gone_is_one_sentence_with_code_1(server, run, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = run("piqa")
    assert code == 1 and err.count("\n") == 1
    assert "http://127.0.0.1:9 cannot be reached" in err and "check the connection and repeat the command" in err


# ---------------------------------------------------------------- revisions


def test_later_calls_stay_at_the_revision_of_the_first_until_update(server, run, root):
    run("mmlu_anatomy")
    first = server.commit("cais/mmlu")
    server.version = 2
    run("mmlu_astronomy")
    one = load_sets(root)["cais/mmlu"]
    assert one.revision == first and set(one.splits) == {"anatomy", "astronomy"}
    server.requests.clear()
    run("mmlu_anatomy", "--update")
    two = load_sets(root)["cais/mmlu"]
    assert two.revision == server.commit("cais/mmlu") != first and set(two.splits) == {"anatomy", "astronomy"}
    assert server.files_sent() == []  # the bytes are those that are there


def test_files_of_the_revision_before_do_not_stay(server, run, root, published, tmp_path):
    server.repositories = tmp_path / "hub"
    shutil.copytree(published / "hub/openai", tmp_path / "hub/openai")
    run("gsm8k")
    server.version = 2
    folder = tmp_path / "hub/openai/gsm8k/main"
    for part in (0, 1):
        shutil.copy(folder / "test-00000-of-00001.parquet", folder / f"test-0000{part}-of-00002.parquet")
    (folder / "test-00000-of-00001.parquet").unlink()
    run("gsm8k", "--update")
    here = {path.name for path in (root / "openai/gsm8k/main").glob("test*")}
    assert here == {"test-00000-of-00002.parquet", "test-00001-of-00002.parquet"}
    assert len(load_tasks(["gsm8k"], TaskOptions(data_root=root), tmp_path / "scratch").loaded["tasks"]["gsm8k"].eval_docs) == 12


def test_another_folders_fetched_json_pins_revisions_and_bytes(server, run, root, tmp_path):
    run("piqa")
    pins, first = shutil.move(root, tmp_path / "other"), server.commit("baber/piqa")
    server.version = 2
    assert run("piqa", "--like", f"{pins}/fetched.json")[0] == 0
    assert load_sets(root)["baber/piqa"].revision == first != server.commit("baber/piqa")
    shutil.rmtree(root)
    told = json.loads((pins / "fetched.json").read_text())
    name = "baber/piqa/data/train-00000-of-00001.parquet"
    told["sets"]["baber/piqa"]["files"][name]["sha256"] = "0" * 64
    reseal(pins / "fetched.json", told)
    code, _, err = run("piqa", "--like", f"{pins}/fetched.json")
    assert code == 2 and f"{name!r} does not have the sha256" in err
    code, _, err = run("MME", "--like", f"{pins}/fetched.json")
    assert code == 2 and "does not list the data set 'MME'; leave out --like" in err
    code, _, err = run("gsm8k", "--like", f"{pins}/fetched.json")
    assert code == 2 and "does not list the data set 'openai/gsm8k'; leave out --like" in err


@needs_vlmeval
def test_a_benchmark_records_which_revision_it_was_built_from(server, run, root):
    run("openbookqa", "AI2D_TEST")
    text, visual = (load_source(name, SourceOptions(data_root=root)) for name in ("lm-eval:openbookqa", "vlmeval:AI2D_TEST"))
    assert text.revision == server.commit("allenai/openbookqa")
    assert visual.revision == hashlib.md5((root / "LMUData/AI2D_TEST.tsv").read_bytes()).hexdigest()


def test_evaluation_records_which_revision_it_read(server, run, root, tmp_path):
    run("piqa")
    tasks = load_tasks(["piqa"], TaskOptions(data_root=root), tmp_path / "scratch")
    assert tasks.revisions == {"piqa": server.commit("baber/piqa")}

"""Commands killed before a change of the file system and run again leave what an undisturbed run does (docs/reliability.md).

Here some of the calls, the last one always, and of what is exported one kind of benchmark and two of runs; `make torture`, which sets
TORTURE, tries each.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.workflows.verifying import verify
from reports.folder import LIST
from tests.reliability.steps import Contents, Steps
from tests.reliability.tally import Tally
from tests.training.conftest import TINY

ALL = "TORTURE" in os.environ
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")]
Make = Callable[..., Steps]
DRAWN = re.compile(rb'"[0-9A-Za-z]{22}"')  # a message's id


def stops(few: int) -> int | None:
    """How many calls are tried; None = all."""
    return None if ALL else few


@pytest.fixture
def steps(tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Make:
    """steps(words, begin) → a command in `work`; WORK in its words is that folder."""

    def make(words: str, places: dict[str, Path] | None = None, **more: Any) -> Steps:
        places = {"WORK": tmp_path / "work", **(places or {})}
        known = {name: str(path) for name, path in places.items()}
        again = more.pop("again", words)
        replaced = [[replace(word, known) for word in line.split()] for line in (words, again)]
        tally = Tally(f"killed at a call: {request.node.name.removeprefix('test_')}", record_property)
        return Steps(tmp_path / "work", replaced[0], again=replaced[1], tally=tally, **more)

    return make


def replace(word: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        word = word.replace(name, path)
    return word


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory) -> Path:
    """A run folder of suite iit."""
    out = tmp_path_factory.mktemp("runs") / "majority"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(out), "--limit", "4", "--quiet"]) == 0
    return out


def none_or_whole(left: Contents) -> bool:
    """A folder that is written whole or not at all: no file of it, or its manifest, which is written last."""
    files = [name for name in left if name.startswith("out/")]
    return not files or "out/manifest.json" in files


BUILD = "build --size 1 --tiers T,VT --match none --out WORK/out"


def test_build(steps):
    assert steps(BUILD, kept=none_or_whole, finished="already holds a benchmark").check(stops(1))


@pytest.mark.parametrize("to", ["lm-eval", *(["vlmeval", "croissant", "hub"] if ALL else [])])
def test_export_of_a_benchmark(bench, steps, to):
    words = f"export BENCH --to {to} --out WORK/out --quiet" + (" --tiers T,VT" if to in ("lm-eval", "vlmeval") else "")
    assert steps(words, {"BENCH": bench.path}, kept=none_or_whole, finished="already holds a").check(stops(1))


@pytest.mark.parametrize("to", ["inspect", "csv", *(["every-eval-ever", "hub", "latex", "markdown"] if ALL else [])])
def test_export_of_runs(run, steps, to):
    if to == "inspect":
        pytest.importorskip("inspect_ai")
    words = f"export RUN --to {to} --out WORK/out --quiet" + (" --dataset me/bench" if to == "hub" else "")
    one = steps(words, {"RUN": run}, kept=none_or_whole, finished="already holds an export", same=unpacked)
    assert one.check(stops(1))


def unpacked(contents: Contents) -> Contents:
    """An export of runs; inspect's log is taken as the files in it, without the ids that inspect draws: it has the time of each."""
    logs = {name: zipfile.ZipFile(io.BytesIO(data)) for name, data in contents.items() if name.endswith(".eval")}
    if logs and isinstance(manifest := contents.get("out/manifest.json"), dict):
        manifest["files"] = {name: sha256 for name, sha256 in manifest["files"].items() if not name.endswith(".eval")}
    return contents | {name: {one: DRAWN.sub(b'""', log.read(one)) for one in log.namelist()} for name, log in logs.items()}


def test_replacing_a_folder(bench, run, steps, tmp_path):
    """Right after the stop the folder is the old one or the new one, never none."""
    begin = tmp_path / "begin"
    words = f"export RUN --to csv --out {begin}/out --quiet"
    assert main([replace(word, {"RUN": str(run)}) for word in words.split()]) == 0
    (begin / "out" / "README.md").write_text("old")
    words = "export RUN --to csv --out WORK/out --overwrite --quiet"
    one = steps(words, {"RUN": run}, begin=begin, kept=lambda left: {"out/manifest.json", "out/README.md"} <= set(left))
    assert one.check(stops(2))


def test_report(run, steps):
    """Right after the stop `verify` never calls it whole while its first page, or a file on its list, is missing."""
    one = steps("report RUN --out WORK/out", {"RUN": run})
    one.kept = lambda left: not called_whole(one.work / "out") or {"out/index.html", *listed(one.work / "out")} <= set(left)
    assert one.check(stops(2))


def called_whole(folder: Path) -> bool:
    """Whether `verify` does; a folder that holds nothing yet is not."""
    try:
        return all(found.whole for found in verify([folder]))
    except UserError:
        return False


def listed(folder: Path) -> list[str]:
    """The names on a report's list, below `out`."""
    words = [line.split()[-1] for line in (folder / LIST).read_text().splitlines() if not line.startswith("#")]
    return [f"out/{word}" for word in words]


def test_evaluation(bench, steps):
    words = "eval --model random --bench BENCH --limit 2 --out WORK/out --quiet"
    assert steps(words, {"BENCH": bench.path}).check(stops(2))


def test_evaluation_that_is_started_over(bench, steps, tmp_path):
    """Results are there only with the predictions that they are of, also right after the stop; those of its arms, too."""
    words = "eval --model random --bench BENCH --limit 2 --out OUT/out --quiet"
    command = f"{words} --arms blind"
    assert main([replace(word, {"BENCH": str(bench.path), "OUT": str(tmp_path / "begin")}) for word in command.split()]) == 0
    one = steps(
        f"{words.replace('OUT', 'WORK')} --fresh",
        {"BENCH": bench.path},
        begin=tmp_path / "begin",
        kept=lambda left: all(
            f"{folder}/results.json" not in left or f"{folder}/predictions.parquet" in left for folder in ("out", "out/arms/blind")
        ),
    )
    assert one.check(stops(2))


def test_suite_text(save_tiny, steps):
    """Files of lm-eval, too."""
    words = "eval --suite text --model hf:MODEL --tasks iit_facts_capital --limit 2 --out WORK/out --quiet"
    one = steps(words, {"MODEL": save_tiny("llama", max_position_embeddings=512)}, same=without_times)
    assert one.check(stops(1))


def without_times(contents: Contents) -> Contents:
    """A run of suite text; lm-eval's own files, which run.json lists, have the time in their names, and how long they took in them."""
    if isinstance(header := contents.get("out/run.json"), dict):
        header["files"] = {name: sha256 for name, sha256 in header["files"].items() if not name.startswith("lm_eval/")}
    return {re.sub(r"_\d{4}-\d\d-\d\dT[\d.-]+", "", name): None if "lm_eval/" in name else one for name, one in contents.items()}


def whole_checkpoints(left: Contents) -> bool:
    """What has the name of a checkpoint has all its files: nothing is removed, or made, one file after the other under that name."""
    files = ("state.json", "tensors.safetensors")
    return all(f"{name}/{file}" in left for name in ("out/checkpoint", "out/checkpoint.old") if name in left for file in files)


def test_training(steps):
    """In few stops: where checkpoints are moved and removed."""
    values = [*TINY["lab-base"], "optim.steps=2", "every.checkpoint=1", "every.log=1", "every.score=100", "optim.batch=3", "data.turns=[1]"]
    sets = " ".join(f"--set {value.replace(' ', '')}" for value in (*values, "limit=2", "test=false"))
    one = steps(f"train lab-base {sets} --out WORK/out --resume --quiet", kept=whole_checkpoints, same=losses)
    assert one.check(stops(2), at="" if ALL else r"os\.(rename|remove|rmdir) .*/\.?checkpoint")


def losses(contents: Contents) -> Contents:
    """A training's folder, of its log the last loss of each step: steps after the last checkpoint are done again."""
    log = contents.get("out/log.jsonl")
    if log is None:
        return contents
    lines = [json.loads(line) for line in log.splitlines()]
    contents = contents | {"out/log.jsonl": {line["step"]: line["loss"] for line in lines if "loss" in line}}
    card = contents.get("out/training.json")
    if isinstance(card, dict):
        card["files"].pop("log.jsonl", None)  # its sha256
    return contents

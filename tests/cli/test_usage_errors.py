"""What can be known to be wrong without a model is refused before one is loaded, and before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.models import load
from iit_bench.models.bundled import ASSETS
from tests.resealed import reseal

pytestmark = pytest.mark.slow

EVAL = "eval --model wings --bench {bench} --out {tmp}/new "
UNTIL = EVAL + "--base {base} --until decided "
SERVER = "eval --model openai:x --base-url http://127.0.0.1:9/v1 --bench {bench} --out {tmp}/new "
SEVERAL = "eval --model wings,llava --bench {bench} --out {tmp}/new "
WATCH = "watch {empty} --model wings --bench {bench} --out {tmp}/new --once "
SUBMIT = "submit --cluster local --logs {tmp}/logs eval --model wings --bench {bench} --out {tmp}/new "
ATTENTION = "attention --model wings --bench {bench} --out {tmp}/a.parquet "
LLM = EVAL.replace("wings", "base-llm")
TEXT = "eval --suite text --model base-llm --tasks arc_easy --out {tmp}/new "
VQA = "eval --suite vqa --model base-llm --tasks MME --out {tmp}/new "
ALL = "eval --suite all --model wings --bench {bench} --out {tmp}/new --tasks arc_easy "

# Command line → what its one sentence says.
WRONG = {
    EVAL + "--arms sideways": "there is no arm sideways",
    EVAL + "--arms ,": "--arms names no arm",
    EVAL + "--arms reordered": "style cloze shows no choices",
    EVAL + "--arms blank --blind": "images are all removed",
    EVAL + "--arms blind --tiers T": "no tier of the run ends in V",
    EVAL + "--arms blind-history --tiers T,V": "after a visual turn",
    EVAL + "--until nope": "--until 'nope' is not known; give 'decided'",
    EVAL + "--engine nope": "--engine 'nope' is not known; give 'auto' or 'plain'",
    EVAL + "--until decided": "give the base's finished run with --base",
    EVAL + "--margin 0.1": "--margin is what --until decided rules out",
    EVAL + "--margin 0.02": "--margin has no effect without --until",
    EVAL + "--scoring loglikelihood --max-new-tokens 32": "--max-new-tokens has no effect under --scoring loglikelihood",
    EVAL + "--model llava": "--model takes one value and is given more than once",
    EVAL + "--model=wings --out x --out y": "--model, --out take one value each and are given more than once",
    EVAL + "--fresh --resume": "--fresh/--resume takes one value and is given more than once",
    LLM + "--arms blind": "no tier of the run ends in V",
    LLM + "--arms irrelevant": "arm irrelevant cannot be asked: model 'base-llm' takes no images",
    LLM + "--arms all": "cannot be asked any arm (",
    LLM + "--tiers V": "the model takes no images and every chosen tier has some",
    LLM.replace("base-llm", "hf:{llm}") + "--arms pixels": "takes no images",
    UNTIL + "--margin 2": "--margin 2 is no fraction",
    UNTIL + "--margin nan": "--margin nan is no fraction",
    UNTIL + "--tiers T,TV": "leave TV out of --tiers",
    UNTIL + "--limit 3": "limit (3 and none)",
    UNTIL + "--arms blind": "no tier of the run ends in V",
    UNTIL + "--processes 2": "takes one process, and 2 were started",
    EVAL + "--limit 0": "--limit 0 is too low",
    EVAL + "--processes 2 --limit 0": "--limit 0 is too low",
    EVAL + "--tiers Q": "has no tier Q",
    EVAL + "--tiers ,": "--tiers names no tier",
    EVAL + "--reasoning-tokens 9 --scoring loglikelihood": "has no effect under scoring loglikelihood",
    EVAL + "--base {tmp}/nowhere": "is not there",
    EVAL + "--base {base} --style letters": "they differ in style",
    EVAL + "--base {base} --history own": "they differ in history",
    EVAL + "--base {base} --scoring generate": "they differ in scoring",
    EVAL + "--base {base} --tiers V": "has no tier that ends in T in common",
    EVAL + "--image-cache {base}/run.json": "is a file; name a folder",
    EVAL.replace("{tmp}/new", "/proc/x"): "no file can be made in '/proc'",
    EVAL.replace("{tmp}/new", "{bench}"): "is not a run folder",
    EVAL.replace("{tmp}/new", "{run}") + "--limit 2": "holds another run (limit None there, 2 now)",
    EVAL.replace("{tmp}/new", "{run}") + "--blind": "holds another run (model blind False there, True now)",
    SERVER + "--concurrency 0": "--concurrency 0 is too low",
    SERVER + "--retries -1": "--retries -1 is too low",
    SERVER + "--timeout 0": "--timeout 0.0 is too low",
    SERVER + "--timeout nan": "--timeout nan is too low",
    SERVER + "--price-in -1": "--price-in -1.0 is too low",
    SEVERAL + "--tiers Q": "has no tier Q",
    SEVERAL + "--arms reordered": "style cloze shows no choices",
    ALL + "--limit 0": "--limit 0 is too low",
    ALL + "--until decided": "give the base's finished run with --base",
    ALL + "--base {base} --style letters": "they differ in style",
    TEXT + "--fewshot-as-multiturn": "--fewshot-as-multiturn has no effect without --apply-chat-template",
    VQA: "model 'base-llm' takes no images (",
    "arms {run} --limit 0": "--limit 0 leaves nothing to ask",
    "arms {run} --arms sideways": "there is no arm sideways",
    "arms {run} --arms reordered": "style cloze shows no choices",
    "arms {text} --arms irrelevant": "arm irrelevant cannot be asked: model 'random' takes no images",
    "arms {text}": "cannot be asked any arm (",
    "arms {run} --bench {tmp}/nowhere": "name it with --bench DIR",
    "attention {text}": "is of a model that takes no images",
    "arms {run} --limit 3 --limit 4": "--limit takes one value and is given more than once",
    ATTENTION.replace("wings", "base-llm"): "model 'base-llm' takes no images (",
    ATTENTION + "--limit 0": "--limit 0 is too low",
    ATTENTION + "--tiers Q": "has no tier Q",
    ATTENTION + "--tiers T": "no chosen dialogue has an image",
    ATTENTION.replace("{tmp}/a.parquet", "/proc/x"): "no file can be made in '/proc'",
    ATTENTION.replace("{tmp}/a.parquet", "{run}") + "--style letters": "is of another style",
    WATCH + "--limit 0": "--limit 0 is too low",
    WATCH + "--tiers Q": "has no tier Q",
    WATCH + "--arms reordered": "style cloze shows no choices",
    WATCH + "--until decided": "give the base's finished run with --base",
    WATCH + "--margin 0.02": "--margin has no effect without --until",
    WATCH + "--every 30": "--every has no effect with --once",
    WATCH + "--base {tmp}/nowhere": "is not there",
    SUBMIT + "--limit 0": "--limit 0 is too low",
    SUBMIT + "--becnh x": "--becnh",
    SUBMIT + "--margin 0.02": "--margin has no effect without --until",
    SUBMIT + "--model llava": "--model takes one value and is given more than once",
    SUBMIT.replace("submit", "submit --partition gpu"): "--partition has no effect with --cluster local",
    SUBMIT.replace("submit", "submit --processes 2") + "--base {base} --until decided": "takes one process, and 2 were started",
    "plan --discordance 0.1 --over V*": "--over has no effect without --pilot",
    "plan --discordance 0.1 --icc 0.2": "--icc has no effect without --cluster-size above 1",
    "plan --pilot {run} {run} --icc 0": "--icc has no effect beside --pilot",
    "plan --pilot {run} {run} --pilot {run} {base}": "--pilot takes one value and is given more than once",
    "train lab-base --out {tmp}/t --processes 1": "--processes has no effect without --dry-run",
    "train lab-base --out {tmp}/t --throughput 9 --check-data": "--throughput has no effect without --dry-run",
    "train lab-base --out {tmp}/t --json": "--json has no effect without --dry-run or --check-data",
    "train lab-base --out {tmp}/t --dry-run --resume": "--fresh/--resume has no effect where nothing is trained",
    "lab quick --out {tmp}/l --dry-run --report --keep": "--report, --keep have no effect with --dry-run",
    "fetch arc_easy --data-root {tmp}/d --dry-run --yes": "--yes has no effect with --dry-run",
    "plan --discordance 0.1 --cluster-size nan": "--cluster-size is 1 or more",
    "plan --discordance 0.1 --cluster-size inf": "--cluster-size is 1 or more",
}


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory) -> Path:
    """A finished run in style cloze."""
    out = tmp_path_factory.mktemp("runs") / "random"
    assert main(["eval", "--model", "random", "--bench", str(bench.path), "--out", str(out), "--quiet"]) == 0
    return out


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_option_is_one_sentence_before_a_model_is_loaded(words: str, bench, run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def factory_of(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(load, "resolve", factory_of)
    mine = shutil.copytree(run, tmp_path / "run")
    text = shutil.copytree(run, tmp_path / "text")  # of a model that takes no images
    header = json.loads((text / "run.json").read_text())
    reseal(text / "run.json", header | {"model": header["model"] | {"accepts_images": False}})
    (tmp_path / "empty").mkdir()
    before = files(tmp_path)
    places = {
        "bench": bench.path,
        "base": run,
        "run": mine,
        "text": text,
        "tmp": tmp_path,
        "llm": ASSETS / "base-llm",
        "empty": tmp_path / "empty",
    }
    assert main(words.format(**places).split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("iit-bench: ") and WRONG[words].format(**places) in line
    assert files(tmp_path) == before


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}

"""VLMEvalKit's own run of a model, and ours, to be compared item by item. Tests are no package: loaded by path, as the fixture `oracle`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from evaluators.runs.options import RunOptions
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.models.contract import Model
from iit_bench.storage.runs import TaskRun, load_run
from tests import warm_processes

TOKENS = 6
VERDICTS = (("_exact_matching_result", "hit"), ("_auxmatch", "score"), ("_results", "eval_match"))  # result file of a kind, its column


def vlmevalkits_own(model: str, folder: Path, tasks: tuple[str, ...], tables: Path, work: Path) -> dict[str, Any]:
    """What VLMEvalKit predicts, finds item by item and returns, per task; in a process that has nothing of our suite (kit_alone.py)."""
    lmu = work / "lmu"
    lmu.mkdir()
    for name in tasks:
        (lmu / f"{name}.tsv").symlink_to(next(tables.rglob(f"{name}.tsv")))
    spec = {"model": model, "folder": str(folder), "tasks": tasks, "work": str(work), "tokens": TOKENS}
    (work / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    environment = {**os.environ, "LMUData": str(lmu), "PRED_FORMAT": "tsv", "EVAL_FORMAT": "json", "SPLIT_THINK": "1"}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(Path(__file__).with_name("kit_alone.py")), str(work / "spec.json")]
    preload = warm_processes.MODELS if model in ("llava", "wings") else warm_processes.PACKAGES
    done = warm_processes.run(command, cwd=work, env=environment, preload=preload)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((work / "found.json").read_text(encoding="utf-8"))
    imported = {name.split(".")[0] for name in found.pop("")}
    assert imported <= ({"iit_bench"} if model == "wings" else set()), imported
    return found


def ours(model: Model, tasks: tuple[str, ...], tables: Path, out: Path) -> TaskRun:
    options = RunOptions(model=model.info.name, out=out, suite="vqa", tasks=tasks, data_root=tables, max_new_tokens=TOKENS)
    evaluate_vqa_model(model, options, progress=False)
    run = load_run(out)
    assert all(result.warnings == () for result in run.results.tasks), "a figure that is not VLMEvalKit's, and nobody knows why"
    return run


def check_equal_item_by_item(run: TaskRun, own: dict[str, Any]) -> None:
    for task, theirs in own.items():
        folder = run.path / "vlmeval" / task / "main"
        (predictions,) = folder.glob(f"*{task}.tsv")
        assert column(predictions, "prediction") == theirs["predictions"], task
        (found,) = [(path, name) for ending, name in VERDICTS if (path := folder / f"{predictions.stem}{ending}.tsv").is_file()]
        assert column(*found) == theirs["items"], task


def column(path: Path, name: str) -> dict[str, str]:
    """Item -> its value in a column of one of VLMEvalKit's result files."""
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return dict(zip(frame["index"], frame[name], strict=True))

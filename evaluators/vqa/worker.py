"""The process in which VLMEvalKit runs: `python -m evaluators.vqa.worker`, started by `evaluators.vqa.evaluate` in a scratch folder.

It reads names of stages from its standard input, a line each, and answers "done" on its standard output; all that VLMEvalKit prints goes to
its standard error.

VLMEvalKit's inference loop runs twice. In stage "prepare" an adapter writes down every message that the loop would put to a model. The
messages are answered outside, in batches and into a log that survives a kill. In stage "score" an adapter replays the replies to the same
loop, and the data set scores what it wrote. Files in the scratch folder:

    spec.json            {"tasks", "data_root", "limit", "model", "judge"}
    lmu/                 VLMEvalKit's data folder ($LMUData): tables, and the images it decodes
    prompts/TASK.jsonl   line 1: facts of the data set; then a line per message: part, index, unit, cluster, message
    replies/TASK.jsonl   a reply per message, in the same order
    work/TASK/PART/      VLMEvalKit's own result files; part "main", and "no-image" for the rows that VLMEvalKit leaves out
    scores/TASK.json     per part: VLMEvalKit's figures and the rows they are made of
    error.json           the sentence for the user, where the stage failed
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluators.vqa.datasets import Part, parts_of, unit_of
from evaluators.vqa.messages import VlmevalMessage, kit, vlmeval_model
from iit_bench.errors import UserError, described

JUDGE_NAMES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}  # as VLMEvalKit writes them into the names of result files


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = json.loads(Path("spec.json").read_text(encoding="utf-8"))
    try:
        with kit(spec["judge"]) as vlmeval:
            for stage in sys.stdin:
                for task in spec["tasks"]:
                    {"prepare": prepare, "score": score}[stage.strip()](task, spec, vlmeval)
                print("done", file=answers, flush=True)
    except UserError as error:
        Path("error.json").write_text(json.dumps(str(error)), encoding="utf-8")
        return 2
    return 0


# ---------------------------------------------------------------- before the model is asked


def prepare(task: str, spec: dict[str, Any], vlmeval: SimpleNamespace) -> None:
    """Write the messages of a data set."""
    facts, parts = parts_of(task, spec["data_root"], spec["limit"], vlmeval.root)
    lines: list[dict[str, Any]] = []
    for part in parts:
        clusters = part.clusters()
        units = [unit_of(part.kind, row) for _, row in part.dataset.data.iterrows()]
        indices = [str(index) for index in part.dataset.data["index"]]
        messages: list[VlmevalMessage] = []
        _infer(vlmeval, part, spec["model"], "record", lambda message, dataset, to=messages: to.append(message) or "")
        for index, unit, cluster, message in zip(indices, units, clusters, messages, strict=True):
            lines.append({"part": part.name, "index": index, "unit": unit, "cluster": cluster, "message": message})
    _write_lines(Path("prompts") / f"{task}.jsonl", [facts, *lines])


def _infer(vlmeval: SimpleNamespace, part: Part, model: str, place: str, answer: Any) -> str:
    """Run VLMEvalKit's loop over a part; returns the folder it wrote to. Its caches are pickles: the folder is always new."""
    folder = Path(place) / part.task / part.name
    folder.mkdir(parents=True)
    vlmeval.infer_data_job(vlmeval_model(answer), str(folder), model, part.dataset)
    return str(folder)


# ---------------------------------------------------------------- after it


def score(task: str, spec: dict[str, Any], vlmeval: SimpleNamespace) -> None:
    """Replay the replies, let the data set score them, and write down what it found."""
    _, *lines = _read_lines(Path("prompts") / f"{task}.jsonl")
    replies = _read_lines(Path("replies") / f"{task}.jsonl")
    found: dict[str, Any] = {}
    for part in parts_of(task, spec["data_root"], spec["limit"], vlmeval.root)[1]:
        said = {_key(line["message"]): reply for line, reply in zip(lines, replies, strict=True) if line["part"] == part.name}
        try:
            folder = _infer(vlmeval, part, spec["model"], "work", lambda message, dataset, said=said: said[_key(message)])
            found[part.name] = _scored(part, Path(folder) / f"{spec['model']}_{task}.tsv", spec["judge"], vlmeval)
        except Exception as error:  # noqa: BLE001 - code of any data set: one that fails must not take the others' figures with it
            traceback.print_exc()
            found[part.name] = {"failure": described(error)}
    path = Path("scores") / f"{task}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found), encoding="utf-8")


def _scored(part: Part, predictions: Path, judge: str, vlmeval: SimpleNamespace) -> dict[str, Any]:
    from vlmeval.smp import load

    plain = vlmeval.open_answers.process_line
    if part.exact:
        vlmeval.open_answers.process_line = functools.partial(plain, method="exact")
    try:
        metrics = part.dataset.evaluate(str(predictions), model=judge, nproc=1)
    finally:
        vlmeval.open_answers.process_line = plain
    stem = str(predictions).removesuffix(".tsv")
    files = {
        "choice": f"{stem}_{JUDGE_NAMES.get(judge, judge)}_result.tsv",
        "circular": f"{stem}_{JUDGE_NAMES.get(judge, judge)}_result.tsv",
        "open": f"{stem}_results.tsv",
    }
    path = Path(files.get(part.kind, f"{stem}_auxmatch.tsv"))
    rows = [_row(part, row, vlmeval) for row in load(str(path)).to_dict("records")] if path.is_file() else []
    return {"kind": part.kind, "metrics": _flat(metrics), "rows": rows}


def _row(part: Part, row: dict[str, Any], vlmeval: SimpleNamespace) -> dict[str, Any]:
    """One item as VLMEvalKit scored it: index, score, unparsed, and the columns that its figures are grouped by."""
    kept = {name: _plain(row.get(name)) for name in ("split", "category", "l2-category", "image_path")}
    kept |= {"index": str(row["index"])}
    if part.kind in ("choice", "circular"):
        failed = "Failed in Prefetch, no GPT-based answer matching under `exact_matching` policy."
        return kept | {"score": float(row["hit"]), "unparsed": not row["hit"] and row["log"] in (failed, f"Match Log: {failed}. ")}
    if part.kind == "open":
        from ast import literal_eval

        hit = vlmeval.open_answers.hit_calculate([{"match": literal_eval(str(row["eval_match"]))}], part.task)
        return kept | {"score": float(hit[0]), "unparsed": False}
    return kept | {"score": float(row["score"]), "unparsed": row["extracted"] == "Unknown"}


def _flat(metrics: Any) -> dict[str, float]:
    """Figures of a data frame (`split|column` where it has splits) or of a dict, numbers only."""
    if hasattr(metrics, "to_dict"):
        rows = metrics.to_dict("records")
        found: dict[str, Any] = {}
        for row in rows:
            split = str(row.get("split", "")) if len(rows) > 1 or row.get("split") not in (None, "none") else ""
            found |= {f"{split}|{name}" if split else str(name): value for name, value in row.items() if name != "split"}
    else:
        found = dict(metrics) if isinstance(metrics, dict) else {}
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    try:
        return float(value) == float(value)  # not NaN
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> str | None:
    """A cell as text; None where it is empty, as pandas reads it."""
    return None if value is None or value != value else str(value)


def _key(message: VlmevalMessage) -> str:
    return json.dumps(message, sort_keys=True)


def _write_lines(path: Path, lines: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


if __name__ == "__main__":
    sys.exit(main())

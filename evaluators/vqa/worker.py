"""The process in which VLMEvalKit runs: `python -m evaluators.vqa.worker`, started by `evaluators.vqa.process` in a scratch folder.

VLMEvalKit's inference loop runs twice. In stage "prepare" an adapter records every message that the loop would send to a model. The
messages are answered by the caller, in batches and with a log that survives a kill. In stage "score" an adapter replays the replies to
the same loop, and the data set scores what the loop wrote. The files exchanged are those of `protocol.py`.
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

from evaluators.vqa.datasets import LMU, Part, parts_of, units_of
from evaluators.vqa.exact_rule import exactly
from evaluators.vqa.messages import VlmevalMessage, vlmeval_model
from evaluators.vqa.notes import count_guesses
from evaluators.vqa.protocol import Exchange, Prompt, Spec
from iit_bench.errors import UserError, described
from iit_bench.storage.inside import OutsideError, inside
from iit_bench.tools.text_cells import guesses
from iit_bench.tools.vlmevalkit import kit
from iit_bench.tools.worker_process import replies, requests

JUDGE_NAMES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}  # as VLMEvalKit writes them into the names of result files


def main() -> int:
    """Do the stages that the evaluation asks for, until it ends the process."""
    reply = replies()
    files = Exchange(Path())
    spec = files.load_spec()
    try:
        with kit(spec.judge) as vlmeval:
            for stage in requests():
                for task in spec.tasks:
                    {"prepare": prepare, "score": score}[stage](task, spec, files, vlmeval)
                reply({"done": stage})
    except UserError as error:
        reply({"error": str(error)})
        return 2
    return 0


# ---------------------------------------------------------------- stage "prepare"


def prepare(task: str, spec: Spec, files: Exchange, vlmeval: SimpleNamespace) -> None:
    """Write the messages of a data set."""
    facts, parts = parts_of(task, spec.data_root, spec.limit, vlmeval)
    prompts: list[Prompt] = []
    unaskable: dict[str, str] = {}
    for part in parts:
        clusters = part.clusters()
        units = units_of(task, part.kind, part.dataset.data)
        indices = [str(index) for index in part.dataset.data["index"]]
        messages: list[VlmevalMessage] = []
        _infer(vlmeval, part, spec.model, files.folder / "record", lambda message, dataset, to=messages: to.append(message) or "")
        why = part.dataset.unaskable
        for index, unit, cluster, message in zip(indices, units, clusters, messages, strict=True):
            refuse_pictures_elsewhere(message, index, task)
            prompts.append(
                Prompt(part=part.name, index=index, unit=str(unit), cluster=cluster, message=message, failure=why.get(index, ""))
            )
        unaskable |= why
    facts |= {"redrawn": [index for part in parts for index in part.dataset.redrawn], "unaskable": sorted(unaskable)}
    files.save_prompts(task, facts, prompts)


def refuse_pictures_elsewhere(message: VlmevalMessage, index: str, task: str) -> None:
    """Refuse a row whose picture lies neither below its table's folder nor in the scratch folder: VLMEvalKit opens any file of a table.

    Raises:
        UserError: it is one.
    """
    table = (LMU / f"{task}.tsv").resolve()
    for name in (str(part["value"]) for part in message if part["type"] == "image"):
        if not Path(name).exists():  # which is reported when it is asked
            continue
        try:
            inside(LMU if Path(os.path.realpath(name)).is_relative_to(LMU.resolve()) else table.parent, os.path.abspath(name))
        except OutsideError:
            raise UserError(
                f"row {index!r} of table {table.name!r} names the image {name!r}, outside its folder {str(table.parent)!r}; put the images "
                "below the table's folder"
            ) from None


def _infer(vlmeval: SimpleNamespace, part: Part, model: str, place: Path, answer: Any) -> str:
    """Run VLMEvalKit's loop over a part and return the folder it wrote to: always a new one, because its caches are pickles."""
    folder = place / part.task / part.name
    folder.mkdir(parents=True)
    vlmeval.infer_data_job(vlmeval_model(answer), str(folder), model, part.dataset)
    return str(folder)


# ---------------------------------------------------------------- stage "score"


def score(task: str, spec: Spec, files: Exchange, vlmeval: SimpleNamespace) -> None:
    """Replay the replies, have the data set score them, and write its scores."""
    _, prompts = files.load_prompts(task)
    answers = files.load_replies(task)
    scores: dict[str, Any] = {}
    for part in parts_of(task, spec.data_root, spec.limit, vlmeval)[1]:
        by_message = {_key(prompt.message): text for prompt, text in zip(prompts, answers, strict=True) if prompt.part == part.name}
        try:
            folder = _infer(vlmeval, part, spec.model, files.work, lambda message, dataset, replies=by_message: replies[_key(message)])
            scores[part.name] = _scored(part, Path(folder) / f"{spec.model}_{task}.tsv", spec.judge, vlmeval)
        except Exception as error:  # noqa: BLE001 - code of any data set: the figures of the others must survive its failure
            traceback.print_exc()
            scores[part.name] = {"failure": described(error)}
    files.save_scores(task, scores)


def _scored(part: Part, predictions: Path, judge: str, vlmeval: SimpleNamespace) -> dict[str, Any]:
    from vlmeval.smp import load

    guessed = count_guesses(guesses(load(str(predictions)), ["prediction"]))
    plain = vlmeval.open_answers.process_line
    if part.exact:
        vlmeval.open_answers.process_line = functools.partial(exactly, plain)
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
    return {"kind": part.kind, "metrics": _flat(metrics), "rows": rows, "guessed": guessed}


def _row(part: Part, row: dict[str, Any], vlmeval: SimpleNamespace) -> dict[str, Any]:
    """One item as VLMEvalKit scored it: index, score, unparsed, and the columns by which its figures are grouped."""
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
    """The numbers in a data frame (`split|column` if it has splits) or in a dict."""
    if hasattr(metrics, "to_dict"):
        rows = metrics.to_dict("records")
        figures: dict[str, Any] = {}
        for row in rows:
            split = str(row.get("split", "")) if len(rows) > 1 or row.get("split") not in (None, "none") else ""
            figures |= {f"{split}|{name}" if split else str(name): value for name, value in row.items() if name != "split"}
    else:
        figures = dict(metrics) if isinstance(metrics, dict) else {}
    return {name: float(value) for name, value in figures.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    try:
        return float(value) == float(value)  # not NaN
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> str | None:
    """A cell as text; None if it is empty, as pandas reads it."""
    return None if value is None or value != value else str(value)


def _key(message: VlmevalMessage) -> str:
    return json.dumps(message, sort_keys=True)


if __name__ == "__main__":
    sys.exit(main())

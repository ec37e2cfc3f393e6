"""What items of the suites text and vqa were asked, of the files that lm-eval and VLMEvalKit keep in a run folder or beside results."""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evaluators.runs.foreign import lm_eval_files, vlmeval_files
from evaluators.runs.foreign.table_files import read_rows
from evaluators.show.records import Answered, Asked, answered_item, asked_of_item
from iit_bench.storage.runs import TaskRun
from iit_bench.types import TaskItem


class TaskWords:
    """The words of a run's items, read per task when the first of its items is shown."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run
        self._rows = cache(self._read)

    def _read(self, task: str) -> dict[str, Mapping[str, Any]]:
        """Item -> lm-eval's sample or VLMEvalKit's row; empty where the files do not hold them."""
        run, tool = self._run, str(self._run.run.get("tool") or "")
        if run.run["suite"] == "text" and (not tool or tool.startswith(lm_eval_files.TOOL)):
            files = [run.path] if tool else sorted((run.path / "lm_eval").rglob("results_*.json"))
            file = lm_eval_files.samples_file(files[-1], task) if files else None
            return {} if file is None else {str(line["doc_id"]): line for line in lm_eval_files.samples_in(run.whole(file))}
        if run.run["suite"] == "vqa" and (not tool or tool.startswith(vlmeval_files.TOOL)):
            folder = run.path.parent if tool else run.path / "vlmeval" / task / "main"
            file = vlmeval_files.predictions_file(folder, task)
            return {} if file is None else {str(line["index"]): line for line in read_rows(run.whole(file))}
        return {}

    def asked(self, item: TaskItem) -> Asked:
        """What was asked, as far as the files hold it."""
        row = self._rows(item.task).get(item.item)
        if row is None:
            return asked_of_item(item)
        return asked_of_item(item, *(_of_sample(row) if "arguments" in row else _of_row(row)))

    def answered(self, name: str, item: TaskItem, why: str) -> Answered:
        """What was answered; of scored choices with their log-probabilities."""
        row = self._rows(item.task).get(item.item)
        scored = _scores(row) if row is not None and "arguments" in row else ()
        chosen = max(range(len(scored)), key=scored.__getitem__) if scored else None
        return answered_item(name, item, why, logprobs=scored, chosen=chosen)


def _of_sample(sample: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], int | None]:
    """Prompt, choices and place of the gold answer of lm-eval's sample."""
    arguments = sample["arguments"]
    if not arguments:
        return (), (), None
    if not _scores(sample):
        return (str(arguments[0][0]),), (), None
    contexts = list(dict.fromkeys(str(one[0]) for one in arguments))
    same = len(contexts) > 1 and len({str(one[1]) for one in arguments}) == 1  # choices are beginnings, as in WinoGrande
    choices = tuple(str(one[0] if same else one[1]).strip() for one in arguments)
    target = str(sample["target"])
    gold = int(target) if target.isdecimal() and int(target) < len(choices) else None
    return ((str(arguments[0][1]).strip(),) if same else tuple(contexts[:1])), choices, gold


def _scores(sample: Mapping[str, Any]) -> tuple[float, ...]:
    replies = [one[0] for one in sample["resps"] if one]
    return tuple(float(one[0]) for one in replies) if replies and all(isinstance(one, (tuple, list)) for one in replies) else ()


def _of_row(line: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], int | None]:
    """Question, choices and place of the gold answer of VLMEvalKit's row; of an open question the gold answer is the only choice."""
    image = f"[image {Path(str(line['image_path'])).name}] " if line.get("image_path") else ""
    words = (f"{image}{line.get('question', '')}",)
    letters = [letter for letter in string.ascii_uppercase if line.get(letter) not in (None, "")]
    answer = str(line.get("answer") or "")
    if letters:
        return words, tuple(str(line[letter]) for letter in letters), letters.index(answer) if answer in letters else None
    return words, (answer,) if answer else (), 0 if answer else None

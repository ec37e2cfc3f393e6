"""VLMEvalKit's result files: `MODEL_DATASET_acc.csv` or `…_score.csv` (or .json, .tsv), and the tables of scored rows beside them.

With its scored rows (`…_result`, `…_auxmatch`, `…_results`) a data set gets the interval that our own runs get; without them, only its
value: VLMEvalKit writes no standard error. Its pickles are never read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.runs.foreign.run import DAMAGED, foreign_header, foreign_run
from evaluators.runs.foreign.table_files import FORMATS, number, read_rows
from evaluators.vqa.scores import Answered, task_result
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import TaskRun
from iit_bench.types import OUTCOMES, SuiteResults, TaskItem, TaskResult

TOOL = "VLMEvalKit"
RULES = "exact_matching"  # no judge; as VLMEvalKit calls it
_SCORES = re.compile(rf"^(?P<stem>.+)_(?P<kind>acc|score)\.(?:{'|'.join(FORMATS)})$")
_FAILED = "Failed in Prefetch"  # VLMEvalKit's log of a reply without a recognisable choice, where no judge was asked
_JUDGES = {"openai": "chatgpt-0125", "gpt4": "gpt-4-0125"}  # as the names of files have them
_FIX = "keep VLMEvalKit's folders, MODEL/MODEL_DATASET_acc.csv"


def is_scores(path: Path) -> bool:
    """Whether a file is named as VLMEvalKit names the figures of a data set."""
    return _SCORES.match(path.name) is not None


def result_files(folder: Path) -> list[Path]:
    """VLMEvalKit's files of figures in a folder and below, each once (it links to its newest)."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_scores(path)]
    by_target = {path.resolve(): path for path in sorted(files, key=lambda path: not path.is_symlink())}  # a file before the links to it
    return sorted(by_target.values())


def read_scores(paths: Sequence[Path]) -> list[TaskRun]:
    """The runs of these files: one per model and folder, its data sets in order of name.

    Raises:
        UserError: a file that cannot be read, or whose name does not separate model and data set.
    """
    runs: dict[tuple[str, Path], dict[str, Path]] = defaultdict(dict)
    for path in paths:
        model, task = _names(path)
        other = runs[model, path.parent].setdefault(task, path)
        if other != path:
            raise UserError(f"{str(other)!r} and {path.name!r} are both figures of {task!r}; leave one of them, or name only that one")
    return [_run(model, files) for (model, _), files in sorted(runs.items())]


def _names(path: Path) -> tuple[str, str]:
    """Model and data set of a file: one of its folders is named like the model."""
    match = _SCORES.match(path.name)
    assert match is not None
    stem = match["stem"]
    for folder in path.absolute().parents:
        task = stem.removeprefix(f"{folder.name}_")
        if folder.name and task and task != stem:
            return folder.name, task
    if stem.count("_") == 1:  # only one way to read it
        model, task = stem.split("_")
        return model, task
    raise UserError(f"the name of {str(path)!r} does not show where the model's name ends, and no folder is named like it; {_FIX}")


def _run(model: str, files: Mapping[str, Path]) -> TaskRun:
    results: list[TaskResult] = []
    items: list[TaskItem] = []
    for task in sorted(files):
        try:
            result, made = _task(task, files[task])
        except (*DAMAGED, SyntaxError, MemoryError) as error:
            raise UserError(f"{str(files[task])!r} or a table beside it is damaged ({described(error)}); run VLMEvalKit again") from error
        results.append(result)
        items += made
    outcomes: dict[str, int] = {outcome: sum(result.outcomes[outcome] for result in results) for outcome in OUTCOMES}
    path = min(files.values())
    header = foreign_header(TOOL, "vqa", model, path, tasks=sorted(files))
    figures = SuiteResults(suite="vqa", complete=True, outcomes=outcomes, tasks=tuple(results))
    return foreign_run(path, header, figures, items)


# ---------------------------------------------------------------- one data set


def _task(task: str, path: Path) -> tuple[TaskResult, list[TaskItem]]:
    match = _SCORES.match(path.name)
    assert match is not None
    metrics = _metrics(read_rows(path))
    stem = path.with_name(match["stem"])
    kind, rows, answered, judge = "other", [], [], ""
    for kind_of_rows, suffix, read in (("choice", "_result", _choice), ("yes/no", "_auxmatch", _yes_no), ("open", "_results", _open)):
        table = _beside(stem, suffix)
        if table is not None:
            lines = read_rows(table)
            kind, rows = _kind(task, kind_of_rows), read(lines, metrics)
            judge = _judge(table, stem, suffix) if kind == "choice" else RULES if kind == "open" else ""
            answered = [_message(line) for line in lines]
            break
    result, items = task_result(task, {"published": None}, answered, {"main": {"kind": kind, "metrics": metrics, "rows": rows}})
    notes = () if rows else (f"{TOOL}'s own number without an interval: no table of scored rows beside {path.name}",)
    if rows and all(one.cluster == one.index for one in answered):
        notes = (f"{TOOL}'s tables do not name the images: each question counts as independent, which makes the interval too narrow",)
    best = 1.0 if not rows and _fractions(read_rows(path)) else result.best
    n_documents = len(rows) if rows else None
    return replace(result, best=best, notes=(*result.notes, *notes), judge=judge, n_documents=n_documents), items


def choices_file(folder: Path, task: str) -> Path | None:
    """A data set's table of scored choices in a folder of one model; None where there is no such table, or more than one."""
    named = re.compile(rf"(?:.+_)?{re.escape(task)}_[^_]+(?:_[^_]+)?_result\.(?:{'|'.join(FORMATS)})")
    tables = [path for path in sorted(folder.glob("*_result.*")) if named.fullmatch(path.name)]
    return tables[0] if len(tables) == 1 else None


def predictions_file(folder: Path, task: str) -> Path | None:
    """The table of a data set with its replies (`MODEL_DATASET.tsv`) in a folder of one model; None without such a table, or of several."""
    named = re.compile(rf"(?:.+_)?{re.escape(task)}\.(?:{'|'.join(FORMATS)})")
    tables = [path for path in sorted(folder.iterdir()) if named.fullmatch(path.name)] if folder.is_dir() else []
    return tables[0] if len(tables) == 1 else None


def _message(line: Mapping[str, Any]) -> Answered:
    index = str(line["index"])
    return Answered(part="main", index=index, unit=index, cluster=_cluster(line), reply=str(line.get("prediction", "")))


def _kind(task: str, kind: str) -> str:
    """Yes/no data sets with aggregations of their own."""
    return kind if kind != "yes/no" else "mme" if "MME" in task else "hallusion" if "Hallusion" in task else kind


def _beside(stem: Path, suffix: str) -> Path | None:
    """The table of scored rows; the name of a table of choices holds the judge's name.

    Raises:
        UserError: several judges scored the data set, and the figures do not record which made them.
    """
    named = "_[^/]+" if suffix == "_result" else ""
    own = re.compile(re.escape(stem.name) + named + suffix + rf"\.(?:{'|'.join(FORMATS)})")
    files = sorted(stem.parent.iterdir())
    others = [match["stem"] for path in files if (match := _SCORES.match(path.name)) and match["stem"].startswith(f"{stem.name}_")]
    tables = [path for path in files if own.fullmatch(path.name) and not any(path.name.startswith(f"{other}_") for other in others)]
    if len(tables) > 1:
        raise UserError(f"{str(stem.parent)!r} holds {tables[0].name} and {tables[1].name}, of two judges or formats; leave one of them")
    return tables[0] if tables else None


def _judge(table: Path, stem: Path, suffix: str) -> str:
    """From the name of a table of choices, MODEL_DATASET_JUDGE_result."""
    name = table.stem.removeprefix(f"{stem.name}_").removesuffix(suffix)
    return _JUDGES.get(name, name)


def _metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`split|column` where there are splits, as `evaluators.vqa.worker` names figures."""
    metrics = {}
    for row in rows:
        split = str(row.get("split") or "")
        split = "" if len(rows) == 1 and split in ("", "none") else split
        for name, cell in row.items():
            value = None if name == "split" else number(cell)
            if value is not None:
                metrics[f"{split}|{name}" if split else str(name)] = value
    return metrics


def _fractions(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether figures are 0 … 1: those of choices are, and have a column of splits; all others are percentages or points."""
    return all("split" in row and (number(row.get("Overall")) or 0.0) <= 1 for row in rows)


# ---------------------------------------------------------------- scored rows

Rows = Sequence[Mapping[str, Any]]


def _cluster(line: Mapping[str, Any]) -> str:
    """Rows over one image depend on each other; where the table does not name it, each counts as independent."""
    return str(line.get("image_path") or line["index"])


def _row(line: Mapping[str, Any], score: float, unparsed: bool) -> dict[str, Any]:
    kept = {
        name: str(line[name]) if line.get(name) not in (None, "") else None for name in ("split", "category", "l2-category", "image_path")
    }
    return kept | {"index": str(line["index"]), "score": score, "unparsed": unparsed}


def _choice(lines: Rows, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    return [_row(line, hit, not hit and _FAILED in str(line.get("log", ""))) for line in lines if (hit := _truth(line["hit"])) is not None]


def _yes_no(lines: Rows, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    return [_row(line, _truth(line["score"]) or 0.0, str(line["extracted"]) == "Unknown") for line in lines]


def _open(lines: Rows, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row's score is made from its matches with the gold answers by the data set's rule: the rule that gives VLMEvalKit's own figure."""
    from ast import literal_eval

    matches = [literal_eval(cell) if isinstance(cell := line["eval_match"], str) else cell for line in lines]
    for rule in _RULES:
        scores = [rule([float(one) for one in match]) for match in matches]
        if lines and abs(100 * sum(scores) / len(scores) - metrics.get("Overall", -1.0)) < 1e-6:
            return [_row(line, score, False) for line, score in zip(lines, scores, strict=True)]
    return []


def _average(match: Sequence[float]) -> float:
    return sum(match) / len(match)


def _anls(match: Sequence[float]) -> float:
    return 0.0 if 1 - min(match) < 0.5 else 1 - min(match)


_RULES: tuple[Callable[[Sequence[float]], float], ...] = (_average, max, _anls)


def _truth(cell: Any) -> float | None:
    """1 or 0 of a cell that pandas wrote: True, "True", 1, "1.0"."""
    return {"true": 1.0, "false": 0.0}.get(str(cell).strip().lower(), number(cell))

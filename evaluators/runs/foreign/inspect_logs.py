"""inspect's logs (`.eval`): one of inspect's own is a run of one task; one that `iit-bench export --to inspect` wrote is the run it was.

inspect itself reads the files, which are zip archives with zstd entries; it is imported when a log is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.runs.foreign.inspect_iit import FIX, iit_run
from evaluators.runs.foreign.run import foreign_header, foreign_run
from evaluators.runs.outcomes import count_outcomes, outcomes_by_metric
from evaluators.text.figures import Measured, from_items, from_stderr
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import AnyRun, TaskRun
from iit_bench.storage.schema import check_run
from iit_bench.storage.tables import decode
from iit_bench.types import OUTCOMES, Figure, Outcome, SuiteResults, TaskItem, TaskResult, TaskSuite

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalScore
    from inspect_ai.scorer import Score

TOOL = "inspect"
MISSING = "it is a log of inspect, which the package inspect-ai reads; install it with `pip install 'iit-bench[formats]'`"
_UNREAD = {"events", "events_data", "store", "timelines", "attachments"}  # large parts of a sample that hold no answer
_HEADLINES = ("accuracy", "mean")  # inspect's metrics that are means over samples


def is_log(path: Path) -> bool:
    """Whether a file is named as inspect names its logs."""
    return path.suffix == ".eval"


def result_files(folder: Path) -> list[Path]:
    """inspect's logs in a folder and below."""
    return sorted(path for path in folder.rglob("*.eval") if path.is_file())


def read_log(path: Path) -> AnyRun:
    """The run that a log holds.

    Raises:
        UserError: inspect is not installed, or the file is no log of it, is damaged, or holds no samples.
    """
    try:
        import inspect_ai.log  # noqa: F401 - whether it is there
    except ImportError as error:
        raise UserError(f"{str(path)!r} cannot be read: {MISSING}") from error
    try:
        log = _read(path)
        samples = log.samples or []
        ours = (log.eval.metadata or {}).get("iit-bench")
        if isinstance(ours, Mapping) and ours.get("suite") == "iit":
            return iit_run(path, ours, samples)
        return _task_run(path, log, samples)
    except UserError:
        raise
    except Exception as error:  # what inspect, zip and zstd raise of damaged files has no common base
        raise UserError(
            f"{str(path)!r} is no log of inspect, or a damaged one ({described(error)}); give the .eval file that it wrote"
        ) from error


def _read(path: Path) -> EvalLog:
    """A log with its samples, whose images stay names of attachments. One sample at a time would take inspect many times longer."""
    from inspect_ai.log import read_eval_log

    return read_eval_log(path, exclude_fields=_UNREAD)


# ---------------------------------------------------------------- a task


def _task_run(path: Path, log: EvalLog, samples: Sequence[EvalSample]) -> TaskRun:
    if not samples:
        raise UserError(f"{str(path)!r} holds no samples; run inspect without --no-log-samples")
    ours = (log.eval.metadata or {}).get("iit-bench") or {}
    suite: TaskSuite = ours.get("suite") or ("vqa" if any(map(_has_image, samples)) else "text")
    items, unscored = _items(log.eval.task, samples)
    by_metric: dict[str, list[TaskItem]] = {}
    for item in items:
        by_metric.setdefault(item.metric, []).append(item)
    figures, notes = {}, [*_notes(log, unscored)]
    for metric, rows in by_metric.items():
        figures[metric], note = _figure(metric, rows, log)
        notes += [note] if note else []
    stored: TaskResult | None = decode(TaskResult, ours["result"]) if "result" in ours else None
    result = _asked(log, samples, suite, by_metric) if stored is None else stored
    main = by_metric.get(result.metric, [])
    counts: dict[str, Any] = {"outcomes": count_outcomes(main), "metric_outcomes": outcomes_by_metric(items)}
    unknown = {"": Figure(None, note="not available: the log has no scores")}
    kept = {} if stored is None else {metric: figure for metric, figure in stored.scores.items() if metric not in figures}
    result = dataclasses.replace(result, scores={**figures, **kept} or unknown, notes=(*result.notes, *notes), **counts)
    outcomes: dict[str, int] = {outcome: result.outcomes.get(outcome, 0) for outcome in OUTCOMES}
    results = SuiteResults(suite=suite, complete=log.status == "success", outcomes=outcomes, tasks=(result,))
    return foreign_run(path, _header(path, log, suite), results, items)


def _asked(log: EvalLog, samples: Sequence[EvalSample], suite: TaskSuite, by_metric: Mapping[str, Sequence[TaskItem]]) -> TaskResult:
    """How a task of inspect's own was asked; without its figures."""
    main = next(iter(by_metric), "")
    fractions = all(0 <= item.score <= 1 for item in by_metric.get(main, ()))
    return TaskResult(
        task=log.eval.task,
        metric=main,
        scores={},
        outcomes={},
        best=1.0 if fractions else None,
        chance=_chance(samples, by_metric) if fractions else {},
        version=str(log.eval.task_version or ""),
        n_documents=log.eval.dataset.samples,
        documents_sha256=_documents(samples),
        judge=main if suite == "vqa" else "",
    )


def _items(task: str, samples: Sequence[EvalSample]) -> tuple[list[TaskItem], int]:
    """An item per sample and score, and how many scores inspect itself does not count. Epochs of one sample depend on each other."""
    from inspect_ai.scorer import value_to_float

    number, repeated, unscored = value_to_float(), any(sample.epoch > 1 for sample in samples), 0
    names = list(dict.fromkeys(name for sample in samples for name in sample.scores or {}))
    items = []
    for sample in sorted(samples, key=lambda one: (_place(one), str(one.id), one.epoch)):
        known = sample.metadata if "cluster" in sample.metadata and "item" in sample.metadata else {}  # of a log that we wrote
        item = _item_of(sample, repeated)
        outcomes = known.get("outcomes", {})
        common = {"task": task, "item": item, "cluster": str(known.get("cluster", sample.id)), "reply": sample.output.completion}
        if sample.error is not None:
            metrics = known.get("metrics") or names
            items += [TaskItem(metric=name, score=0.0, outcome="error", **common) for name in metrics]
            continue
        for name, score in _values(sample.scores or {}):
            value = number(score.value)
            if math.isnan(value):
                unscored += 1
                continue
            outcome = outcomes.get(name) or _outcome(score, value)
            items.append(TaskItem(metric=name, score=value, outcome=outcome, **common))
    return items, unscored


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """Item -> what a log says of how it was answered.

    Keys: `cut` (the reply ended at the limit of tokens; None = not recorded) and `words` (JSON of the messages before the reply; ""
    where there are none).
    """
    samples = _read(path).samples or []
    repeated = any(sample.epoch > 1 for sample in samples)
    found = {}
    for sample in samples:
        why = sample.output.stop_reason if sample.output.choices else None
        sent = [one for one in sample.messages if one is not sample.messages[-1] or one.role != "assistant"]
        words = [[one.role, one.content if isinstance(one.content, str) else [_plain(part) for part in one.content]] for one in sent]
        cut = True if why == "max_tokens" else False if why == "stop" else None
        found[_item_of(sample, repeated)] = {"cut": cut, "words": json.dumps(words) if words else ""}
    return found


def _item_of(sample: EvalSample, repeated: bool) -> str:
    known = sample.metadata if "cluster" in sample.metadata and "item" in sample.metadata else {}  # of a log that we wrote
    return str(known.get("item", sample.id)) + (f"#{sample.epoch}" if repeated else "")


def _place(sample: EvalSample) -> int:
    return int(sample.metadata.get("number", 0)) if isinstance(sample.metadata.get("number"), int) else 0


def _values(scores: Mapping[str, Score]) -> Iterator[tuple[str, Score]]:
    """The scores that are one value; of a score of several values each, named scorer/value."""
    for name, score in scores.items():
        if isinstance(score.value, Mapping):
            for key, value in score.value.items():
                if value is not None:
                    yield f"{name}/{key}", score.model_copy(update={"value": value})
        elif not isinstance(score.value, list):
            yield name, score


def _outcome(score: Score, value: float) -> Outcome:
    if score.reason in ("unparsed", "truncated"):
        return score.reason  # type: ignore[return-value]
    if score.value == "N":  # inspect's mark of no answer
        return "unparsed"
    return "correct" if value == 1 else "wrong"


def _figure(metric: str, rows: Sequence[TaskItem], log: EvalLog) -> tuple[Figure, str]:
    """Our mean with its interval where it is inspect's own value, else inspect's value and standard error, and a note that says so."""
    theirs = _headline(metric, log)
    own = sum(row.score for row in rows) / len(rows)
    failed = sum(row.outcome == "error" for row in rows)
    if theirs is None:
        return from_items(rows, Measured(metric=metric, value=own, stderr=None, count=len(rows), tool=TOOL), failed), ""
    value, stderr = theirs
    measured = Measured(metric=metric, value=value, stderr=stderr, count=len(rows), tool=TOOL)
    done = [row for row in rows if row.outcome != "error"]
    without = sum(row.score for row in done) / len(done) if done else math.nan
    if failed and math.isclose(without, value, abs_tol=1e-9):
        note = f"{failed} samples failed and count as wrong; inspect leaves them out, and has {value:.4g}"
        return from_items(rows, dataclasses.replace(measured, value=own), failed), note
    if math.isclose(own, value, abs_tol=1e-9):
        return from_items(rows, measured, 0), ""
    return from_stderr(measured), f"{metric}: inspect's own value, which is not the mean of its samples' scores"


def _headline(metric: str, log: EvalLog) -> tuple[float, float | None] | None:
    """(value, standard error) of inspect's own mean of a score; None where it has none."""
    found = [score for score in (log.results.scores if log.results else ()) if metric in (score.name, f"{score.scorer}/{score.name}")]
    for score in found:
        name = next((name for name in _HEADLINES if name in score.metrics), None)
        if name is not None:
            stderr = score.metrics.get("stderr")
            return float(score.metrics[name].value), _stderr(score, stderr, name)
    return None


def _stderr(score: EvalScore, stderr: Any, name: str) -> float | None:
    own = (score.metrics[name].metadata or {}).get("se")  # of a log that we wrote
    return float(stderr.value) if stderr is not None else float(own) if own is not None else None


def _notes(log: EvalLog, unscored: int) -> Iterator[str]:
    if log.status != "success":
        yield f"inspect's run ended with status {log.status}"
    if unscored:
        yield f"{unscored} scores are not counted, as inspect could not score them"
    if log.invalidated:
        yield "the log was marked invalid in inspect"


def _chance(samples: Sequence[EvalSample], metrics: Iterable[str]) -> dict[str, float]:
    """Mean 1/k where every sample shows its choices."""
    sizes = [len(sample.choices or ()) for sample in samples]
    return dict.fromkeys(metrics, sum(1 / k for k in sizes) / len(sizes)) if all(k > 1 for k in sizes) else {}


def _has_image(sample: EvalSample) -> bool:
    if isinstance(sample.input, str):
        return False
    return any(part.type == "image" for message in sample.input if not isinstance(message.content, str) for part in message.content)


def _documents(samples: Sequence[EvalSample]) -> str:
    """Hash of what was asked and of the right answers. Images count by inspect's hash of their content."""
    lines = set()
    for sample in samples:
        asked: Any = sample.input
        if not isinstance(asked, str):
            asked = [[one.role, one.content if isinstance(one.content, str) else [_plain(part) for part in one.content]] for one in asked]
        lines.add(json.dumps([str(sample.id), asked, sample.choices, sample.target], ensure_ascii=True, sort_keys=True))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _plain(part: Any) -> list[str]:
    return [part.type, str(getattr(part, "text", getattr(part, "image", "")))]


# ---------------------------------------------------------------- run.json


def _header(path: Path, log: EvalLog, suite: TaskSuite) -> dict[str, Any]:
    ours = (log.eval.metadata or {}).get("iit-bench")
    if isinstance(ours, Mapping) and isinstance(ours.get("run"), Mapping):
        return check_run(ours["run"], f"{str(path)!r}, in its metadata the run.json", FIX)
    spec, config = log.eval, log.plan.config.merge(log.eval.model_generate_config)
    given = config.model_dump(exclude_none=True)
    limit = given.pop("max_tokens", None)
    version = spec.packages.get("inspect_ai", "")
    return foreign_header(
        f"{TOOL} {version}".strip(),
        suite,
        spec.model,
        path,
        tasks=[spec.task],
        limit=spec.config.limit if isinstance(spec.config.limit, int) else None,
        max_new_tokens=limit,
        apply_chat_template=True,
        system_prompt=str(given.pop("system_message", "") or ""),
        gen_kwargs=",".join(f"{name}={value}" for name, value in sorted(given.items()) if isinstance(value, (int, float, str))),
        seconds=_seconds(log),
        versions={"inspect-ai": version},
    )


def _seconds(log: EvalLog) -> float | None:
    from datetime import datetime

    if not (log.stats.started_at and log.stats.completed_at):
        return None
    start, end = (datetime.fromisoformat(str(time)) for time in (log.stats.started_at, log.stats.completed_at))
    return (end - start).total_seconds()

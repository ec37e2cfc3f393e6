"""`lm-eval:TASK`: any multiple-choice task or group of lm-eval, read through lm-eval's own task code.

The evaluation split is the test split, else the validation split. With `--data-root DIR` the data set is read from `DIR/<dataset_path>`
(a Hub snapshot) instead of the Hub. Rejected in one sentence: other output types, choices that are bare letters without a declared mapping
(`iit_bench/tools/lm_eval/fields.py`), choices that are contexts (WinoGrande), images.
"""

from __future__ import annotations

import hashlib
import re
import string
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from builders.sources.base import AnswerCounts, SourceOptions, SourceQuestions
from builders.sources.language import language_of
from iit_bench.data.snapshots import card_licence
from iit_bench.errors import UserError
from iit_bench.storage.tables import canonical_json
from iit_bench.tools.lm_eval.fields import Fields, fields_of, render, shared
from iit_bench.tools.lm_eval.index import ROOT, expand
from iit_bench.tools.lm_eval.local_data import FILE_LOADERS, LocalTask, localised, readable, revisions_of
from iit_bench.tools.lm_eval.process import loading
from iit_bench.types import Question

PREFIX = "lm-eval:"
_PROBED = 20  # documents that are read to distinguish bare letters from options that happen to be letters


@dataclass(kw_only=True)
class _Collected:
    """Questions of the tasks of one source that were read so far, and where they come from."""

    questions: list[Question] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    train: list[tuple[str, str]] | None = field(default_factory=list)  # (question, answer); None = a task has no train split
    splits: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    hashes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _SourceTask:
    """One task of a source."""

    source: str  # "lm-eval:mmlu"
    group: str  # "mmlu"
    name: str  # "mmlu_anatomy"
    entry: Any  # lm-eval's own index entry


def load(name: str, options: SourceOptions) -> SourceQuestions:
    """Questions of the lm-eval task or group after the prefix.

    Raises:
        UserError: unknown task, data that cannot be found, or a task that cannot become questions with text choices.
    """
    group = name.removeprefix(PREFIX)
    collected = _Collected()
    if options.include_path is not None and not options.include_path.is_dir():
        raise UserError(f"--include-path {str(options.include_path)!r} is not a folder; give one with lm-eval tasks (*.yaml)")
    for task, entry in expand(group, [options.include_path] if options.include_path else []).items():
        _read_task(_SourceTask(source=name, group=group, name=task, entry=entry), options, collected)
    return SourceQuestions(
        name=name,
        questions=tuple(collected.questions),
        split=", ".join(sorted(collected.splits)),
        licence=", ".join(sorted(collected.licences)),
        origin=", ".join(sorted(collected.origins)),
        revision=", ".join(sorted(collected.revisions)),
        sha256=collected.hashes[0] if len(collected.hashes) == 1 else hashlib.sha256("\n".join(collected.hashes).encode()).hexdigest(),
        left_out=dict(collected.left_out),
        train_answers=AnswerCounts.of(collected.train) if collected.train else None,
    )


# ---------------------------------------------------------------- one task


def _read_task(source_task: _SourceTask, options: SourceOptions, collected: _Collected) -> None:
    """Add the questions of one task."""
    is_lm_evals = source_task.entry.yaml_path is not None and ROOT in source_task.entry.yaml_path.parents
    fields = fields_of(source_task.name) if is_lm_evals else Fields(tasks=(source_task.name,), language="")
    dataset = str((source_task.entry.cfg or {}).get("dataset_path", "its data set"))
    with loading(), tempfile.TemporaryDirectory(prefix="iit-bench-") as scratch, readable(source_task.name, dataset, options.data_root):
        local = _local(source_task.name, _config(source_task.name, source_task.entry), options, Path(scratch))
        task = ConfigurableTask(config=dict(local.config))
        split = "test" if task.has_test_docs() else "validation"
        docs = list(task.eval_docs)
        language = fields.language or options.language
        reader = _DocumentReader(
            source=source_task.source, name=source_task.name, group=source_task.group, task=task, fields=fields, language=language
        )
        reader.check(docs)
        for i, doc in enumerate(docs):
            question = reader.question(i, doc)
            if isinstance(question, Question):
                collected.questions.append(question)
            else:
                collected.left_out[question] += 1
        _read_train(task, reader, collected)
        collected.splits.add(split)
        collected.origins.add("data files of its YAML file" if dataset in FILE_LOADERS else dataset)
        collected.revisions |= revisions_of(task) | {local.revision} - {""}
        collected.licences.add((card_licence(local.folder) if local.folder else "") or fields.licence)
        collected.hashes.append(local.sha256 if local.files else _docs_sha256(docs))


def _config(name: str, entry: Any) -> dict[str, Any]:
    """A task's YAML as ConfigurableTask wants it, stripped of what only scoring and few-shot prompting need.

    Raises:
        UserError: the task is not multiple choice.
    """
    if entry.kind.name == "PY_TASK" or entry.yaml_path is None:
        raise UserError(f"lm-eval task {name!r} is a Python class, which has no declared choices; choose a multiple-choice task")
    config: dict[str, Any] = load_yaml(entry.yaml_path, resolve_func=True)
    if config.get("output_type") != "multiple_choice":
        kind = config.get("output_type", "generate_until")
        raise UserError(f"lm-eval task {name!r} is of type {kind!r}, not multiple_choice; choose a multiple-choice task")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise UserError(f"lm-eval task {name!r} has images or sound, which this source does not read; use a vlmeval: table")
    scoring = ("tag", "group", "task_list", "filter_list", "process_results", "fewshot_split", "num_fewshot", "use_prompt", "metric_list")
    config = {key: value for key, value in config.items() if key not in scoring}
    return config | {"task": name, "metric_list": [_ACC], "fewshot_config": {"samples": [], "sampler": "first_n"}}


_ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


def _local(name: str, config: dict[str, Any], options: SourceOptions, cache: Path) -> LocalTask:
    """The configuration over the files in the data root, if there is one."""
    if options.data_root is None:
        return LocalTask(config=config)
    return localised(name, config, data_root=options.data_root, cache=cache)


def _read_train(task: Any, reader: _DocumentReader, collected: _Collected) -> None:
    """Add the (question, answer) pairs of the train split. A source has a train split only if all its tasks have one."""
    if collected.train is None or not task.has_training_docs():
        collected.train = None
        return
    for doc in task.training_docs():
        choices, answer = reader.answered(doc)
        if isinstance(answer, int):
            collected.train.append((reader.text(doc), choices[answer]))


# ---------------------------------------------------------------- one document


@dataclass(frozen=True, kw_only=True)
class _DocumentReader:
    """Turns documents of one task into questions."""

    source: str
    name: str
    group: str
    task: Any  # lm_eval.api.task.ConfigurableTask
    fields: Fields
    language: str  # of rows whose script does not decide it

    def check(self, docs: list[Mapping[str, Any]]) -> None:
        """Check that the task has documents and choices that are texts.

        Raises:
            UserError: it has not.
        """
        if not docs:
            raise UserError(f"lm-eval task {self.name!r} has no documents in its evaluation split; check its data")
        if self.task.multiple_input or isinstance(self.task.doc_to_text(docs[0]), int):
            raise UserError(f"lm-eval task {self.name!r} has contexts as choices, which cannot be answers; leave the task out")
        if not self.fields.choices and all(_bare(self.task.doc_to_choice(doc)) for doc in docs[:_PROBED]):
            raise UserError(
                f"lm-eval task {self.name!r} has bare letters as choices and no declared mapping to its options; "
                "add one to iit_bench/tools/lm_eval/fields.py or leave the task out"
            )

    def question(self, i: int, doc: Mapping[str, Any]) -> Question | str:
        """The question of a document, or the reason why it has none."""
        choices, answer = self.answered(doc)
        if isinstance(answer, str):
            return answer
        question_id = f"{PREFIX}{self.name}/{i}"
        text = self.text(doc)
        return Question(
            id=question_id,
            modality="T",
            source=self.source,
            subject=render(self.fields.subject, doc) or self._short_name(),
            cluster=self._cluster(doc) or question_id,
            language=language_of(" ".join((text, *choices)), self.language),
            question=text,
            images=(),
            choices=choices,
            answer=answer,
            answer_text=choices[answer],
        )

    def text(self, doc: Mapping[str, Any]) -> str:
        """The question's words."""
        return render(self.fields.question, doc) or str(self.task.doc_to_text(doc)).strip()

    def answered(self, doc: Mapping[str, Any]) -> tuple[tuple[str, ...], int | str]:
        """The choices and the index of the gold one, or the reason why there is none."""
        own = [str(choice) for choice in self.task.doc_to_choice(doc)]
        answer = _index_of(self.task.doc_to_target(doc), own)
        mapped = self.task.doc_to_choice(doc, self.fields.choices) if self.fields.choices else own
        choices = tuple(str(choice).strip() for choice in mapped)
        if isinstance(answer, int) and not 0 <= answer < len(choices):
            return choices, "answer outside the choices"
        return choices, answer

    def _cluster(self, doc: Mapping[str, Any]) -> str:
        """Cluster that the document shares with others; "" for none."""
        passage = shared(self.name, doc) if self.fields.cluster else ""  # a task of one's own may have the name of one of lm-eval's
        return f"{PREFIX}{self.name}/{passage}" if passage else ""

    def _short_name(self) -> str:
        return self.name.removeprefix(f"{self.group}_")


def _bare(choices: Iterable[Any]) -> bool:
    """Whether choices only number the options: A, B, C … or (a) (b) … or 1, 2, 3 … or 0, 1, 2 …"""
    marks = [re.sub(r"[().:\s]", "", str(choice)) for choice in choices]
    runs = (string.ascii_uppercase, string.ascii_lowercase, "0123456789", "123456789")
    return len(marks) > 1 and any("".join(marks) == run[: len(marks)] and max(map(len, marks)) == 1 for run in runs)


def _index_of(target: Any, choices: list[str]) -> int | str:
    """The index of the gold answer, or the reason why there is none."""
    if isinstance(target, (list, tuple)):
        return "several correct answers"
    if isinstance(target, int):
        return target
    text = str(target)
    if text in choices:
        return choices.index(text)
    return int(text) if text.isdecimal() else "no answer" if not text.strip() else "answer outside the choices"


# ---------------------------------------------------------------- provenance


def _docs_sha256(docs: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of documents whose files are not known."""
    digest = hashlib.sha256()
    for doc in docs:
        digest.update(canonical_json(doc).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()

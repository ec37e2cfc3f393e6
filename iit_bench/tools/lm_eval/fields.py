"""Which fields of an lm-eval task's documents are the question and its choices: the declared mapping, by task name.

Needed if a task's choices are bare letters and the options are in its prompt (`question`, `choices`), and used if a prompt carries
cues ("Question: …\\nAnswer:") that are not the question's own words. A value is a document field or a jinja template over the fields, read
exactly as lm-eval reads `doc_to_text` and `doc_to_choice`. A task without a row is asked with its own `doc_to_text`, unchanged.

The builder asks by these fields; the text suite clusters a task's documents by `cluster`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Fields:
    """How the tasks whose names match `tasks` become questions; "" = as lm-eval has it."""

    tasks: tuple[str, ...]  # shell patterns; the first row that matches is used
    question: str = ""
    choices: str = ""
    subject: str = ""  # "" = the task's own name inside its group
    cluster: str = ""  # what several questions share; a document for which it is empty is its own cluster
    right: str = ""  # number of right choices of a document, where lm-eval's target does not give it; "" = it does
    language: str = "en"  # of rows whose script does not decide it; "" = that of --language
    licence: str = "unknown"  # used if the snapshot's card states none


_PASSAGE_BEFORE = "{{ question.rsplit('\\n', 1)[0] if 'refers to the following' in question else '' }}"

FIELDS = (
    Fields(tasks=("mmlu_*",), question="{{question.strip()}}", choices="choices", cluster=_PASSAGE_BEFORE, licence="MIT"),
    Fields(
        tasks=("cmmlu_*",),
        question="{{Question.strip()}}",
        choices="{{[A ~ '', B ~ '', C ~ '', D ~ '']}}",
        language="zh",
        licence="CC-BY-NC-4.0",
    ),
    Fields(tasks=("openbookqa",), question="question_stem", choices="{{choices.text}}"),
    Fields(
        tasks=("hellaswag",),
        question="query",
        choices="choices",
        subject="{{ source_id.split('~')[0] }}",
        cluster="source_id",
        licence="MIT",
    ),
    Fields(tasks=("arc_easy", "arc_challenge"), question="question", choices="{{choices.text}}", licence="CC-BY-SA-4.0"),
    Fields(tasks=("piqa",), question="goal", choices="{{[sol1, sol2]}}", licence="AFL-3.0"),
    Fields(tasks=("sciq",), question="{{ (support.strip() ~ '\\n' ~ question).strip() }}", cluster="support", licence="CC-BY-NC-3.0"),
    Fields(tasks=("boolq",), question="{{passage}}\n{{question}}?", cluster="passage", licence="CC-BY-SA-3.0"),
    Fields(tasks=("commonsense_qa",), question="{{question.strip()}}", choices="{{choices['text']}}", licence="MIT"),
    Fields(tasks=("race",), cluster="article"),
    Fields(tasks=("multirc",), cluster="paragraph"),
    Fields(tasks=("record", "drop"), cluster="passage"),
    Fields(tasks=("squadv2", "xquad_*", "logiqa"), cluster="context"),
    Fields(tasks=("belebele_*",), cluster="flores_passage"),
    Fields(tasks=("truthfulqa*_mc2*",), right="{{ mc2_targets.labels | sum }}"),
)


def fields_of(task: str) -> Fields:
    """The row for a task; an empty one if none is declared."""
    for row in FIELDS:
        if any(fnmatchcase(task, pattern) for pattern in row.tasks):
            return row
    return Fields(tasks=(task,), language="")


def render(template: str, doc: Mapping[str, Any]) -> str:
    """A field of a document, or a template over its fields; "" for no template.

    Raises:
        KeyError, jinja2.UndefinedError: the document lacks a field.
    """
    if not template:
        return ""
    return (_compiled(template).render(**doc) if "{{" in template else str(doc[template])).strip()


def shared(task: str, doc: Mapping[str, Any]) -> str:
    """What a document of a task shares with others (its passage or source) as 16 hexadecimal digits; "" for nothing.

    Raises:
        KeyError, jinja2.UndefinedError: the document lacks a field.
    """
    text = render(fields_of(task).cluster, doc)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


@cache
def _compiled(template: str) -> Any:
    """The template compiled in lm-eval's own jinja environment, which has its filters and rejects unknown fields."""
    from lm_eval.utils import env

    return env.from_string(template)

"""Where a question stands in the documents of lm-eval tasks: the declared mapping, by task name.

Needed where a task's choices are bare letters and the options stand in its prompt (`question`, `choices`), and used where a prompt carries
cues ("Question: …\\nAnswer:") that are not the question's own words. A value is a document field or a jinja template over the fields, read
exactly as lm-eval reads `doc_to_text` and `doc_to_choice`. A task without a row is asked with its own `doc_to_text`, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Fields:
    """How the tasks whose names match `tasks` become questions; "" = as lm-eval has it."""

    tasks: tuple[str, ...]  # shell patterns; the first row with a match counts
    question: str = ""
    choices: str = ""
    subject: str = ""  # "" = the task's own name inside its group
    cluster: str = ""  # what other questions may share; a document where it renders empty is its own cluster
    language: str = "en"
    licence: str = "unknown"  # used where the snapshot's card does not say


_PASSAGE_BEFORE = "{{ question.rsplit('\\n', 1)[0] if 'refers to the following' in question else '' }}"

FIELDS = (
    Fields(("mmlu_*",), question="{{question.strip()}}", choices="choices", cluster=_PASSAGE_BEFORE, licence="MIT"),
    Fields(
        ("cmmlu_*",), question="{{Question.strip()}}", choices="{{[A ~ '', B ~ '', C ~ '', D ~ '']}}", language="zh", licence="CC-BY-NC-4.0"
    ),
    Fields(("openbookqa",), question="question_stem", choices="{{choices.text}}"),
    Fields(
        ("hellaswag",),
        question="query",
        choices="choices",
        subject="{{ source_id.split('~')[0] }}",
        cluster="source_id",
        licence="MIT",
    ),
    Fields(("arc_easy", "arc_challenge"), question="question", choices="{{choices.text}}", licence="CC-BY-SA-4.0"),
    Fields(("piqa",), question="goal", choices="{{[sol1, sol2]}}", licence="AFL-3.0"),
    Fields(("sciq",), question="{{ (support.strip() ~ '\\n' ~ question).strip() }}", cluster="support", licence="CC-BY-NC-3.0"),
    Fields(("boolq",), question="{{passage}}\n{{question}}?", cluster="passage", licence="CC-BY-SA-3.0"),
    Fields(("commonsense_qa",), question="{{question.strip()}}", choices="{{choices['text']}}", licence="MIT"),
    Fields(("race",), cluster="article"),
)


def fields_of(task: str) -> Fields:
    """The row for a task; an empty one where none is declared."""
    for row in FIELDS:
        if any(fnmatchcase(task, pattern) for pattern in row.tasks):
            return row
    return Fields((task,))

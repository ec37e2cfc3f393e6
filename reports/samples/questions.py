"""What was asked, as the explorer's data: the dialogues of one benchmark, or the items of the suites text and vqa."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators.show.task_words import TaskWords
from iit_bench.asking import question_parts
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Image, Question, TaskItem
from reports.samples.pictures import Pictures
from reports.samples.scripts import Chunks, Put, put_script, short

SNIPPET = 90  # characters of a question in the list


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One dialogue or item that some run was asked."""

    id: str
    tier: str = ""  # "" in the suites text and vqa
    source: str = ""  # of the target; the task's name in the suites text and vqa
    subject: str = ""
    target: str = ""  # question id


@dataclass(kw_only=True)
class SampleSet:
    """Dialogues or items that runs share."""

    key: str
    name: str
    kind: str  # "iit", "text" or "vqa"
    benchmark: Benchmark | None = None
    asked: list[Asked] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)  # id -> place in `asked`
    items: dict[str, tuple[TaskWords, TaskItem]] = field(default_factory=dict)  # suites text and vqa: id -> who may know its words

    def enter(self, asked: Asked) -> None:
        """Append an item that is not there yet."""
        if asked.id not in self.places:
            self.places[asked.id] = len(self.asked)
            self.asked.append(asked)

    def dialogues(self) -> Mapping[str, Dialogue]:
        """The benchmark's dialogues by id; none without a benchmark."""
        return {} if self.benchmark is None else {dialogue.id: dialogue for dialogue in self.benchmark.dialogues}


def write_set(put: Put, own: SampleSet, pictures: Pictures) -> None:
    """Write what the page needs to list a set, and its dialogues and questions in chunks.

    What is loaded at first has a few digits per dialogue: ids and the beginnings of questions are in chunks, too.
    """
    index: dict[str, Any] = {"kind": own.kind, "count": len(own.asked)}
    for name in ("tier", "source", "subject"):
        index[name] = _coded([getattr(one, name) for one in own.asked])
    targets: Sequence[int] = [-1] * len(own.asked)
    if own.items:
        index |= _write_items(put, own)
        targets = range(len(own.asked))
    if own.benchmark is not None:
        more, targets = _write_questions(put, own, own.benchmark, pictures)
        index |= more
    listed = Chunks(put, f"{own.key}-i")
    for one, target in zip(own.asked, targets, strict=True):
        listed.add([one.id, target])
    put_script(put, own.key, index | {"listed": listed.end(), "sorted": _write_sorted(put, own)})


def _write_sorted(put: Put, own: SampleSet) -> list[str]:
    """Write where each id is, in the order in which JavaScript compares texts; the first id of each script."""
    chunks = Chunks(put, f"{own.key}-o")
    ids = sorted(own.places, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    for name in ids:
        chunks.add([name, own.places[name]])
    return [ids[start] for start in chunks.end()] if ids else []


def _coded(values: Sequence[str]) -> dict[str, Any]:
    """A column as its distinct values, in order of appearance, and a number per row."""
    names = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return {"names": list(names), "rows": [names[value] for value in values]}


def _write_questions(put: Put, own: SampleSet, benchmark: Benchmark, pictures: Pictures) -> tuple[dict[str, Any], list[int]]:
    """Write dialogues and questions; what the index has of them, and the place of each dialogue's target among the questions."""
    dialogues = own.dialogues()
    known = [dialogues.get(one.id) for one in own.asked]
    used = dict.fromkeys(turn for dialogue in known if dialogue is not None for turn in dialogue.turns)
    places = {question: place for place, question in enumerate(used)}
    turns = Chunks(put, f"{own.key}-d")
    for dialogue in known:
        turns.add([] if dialogue is None else [[places[turn] for turn in dialogue.turns], list(dialogue.connectors)])
    questions, snippets = Chunks(put, f"{own.key}-q"), Chunks(put, f"{own.key}-s")
    for question in used:
        questions.add(question_entry(benchmark.questions[question], pictures))
        snippets.add(snippet(benchmark.questions[question].question))
    targets = [-1 if dialogue is None else places[dialogue.turns[-1]] for dialogue in known]
    return {"snippets": snippets.end(), "dialogues": turns.end(), "questions": questions.end()}, targets


def _write_items(put: Put, own: SampleSet) -> dict[str, Any]:
    """Items of tasks as dialogues of one turn, with their words as far as the tools' files hold them."""
    turns, questions, snippets = (Chunks(put, f"{own.key}-{letter}") for letter in "dqs")
    for place, one in enumerate(own.asked):
        text, choices, answer = item_words(own, one.id)
        known = {"id": one.id, "modality": "", "source": one.source, "subject": "", "cluster": own.items[one.id][1].cluster}
        questions.add(known | {"parts": [short(text)] if text else [], "choices": [short(choice) for choice in choices], "answer": answer})
        turns.add([[place], []])
        snippets.add(snippet(text) or one.id)
    return {"snippets": snippets.end(), "dialogues": turns.end(), "questions": questions.end()}


def item_words(own: SampleSet, name: str) -> tuple[str, tuple[str, ...], int]:
    """Prompt, choices and place of the right one (-1 = not known) of a task's item; empty where the tool's files do not hold them."""
    words, item = own.items[name]
    try:
        asked = words.asked(item)
    except UserError:  # the tool's files are damaged
        return "", (), -1
    return "\n\n".join(asked.turns), asked.choices, -1 if asked.answer is None else asked.answer


def snippet(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * SNIPPET].split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"


def question_entry(question: Question, pictures: Pictures) -> dict[str, Any]:
    """A question as JSON: `parts` are texts, and pictures as [file, width, height], in reading order."""
    return {
        "id": question.id,
        "modality": question.modality,
        "source": question.source,
        "subject": question.subject,
        "cluster": question.cluster,
        "parts": [{"image": pictures.shown(part)} if isinstance(part, Image) else short(part) for part in parts_of(question)],
        "choices": [short(choice) for choice in question.choices],
        "answer": question.answer,
    }


def parts_of(question: Question) -> Iterable[str | Image]:
    """Text and images in reading order; images first where the marks of the text do not fit them."""
    try:
        return question_parts(question)
    except ValueError:
        return (*question.images, question.question)

"""What a run answered, as the explorer's data: one entry per dialogue or item of its set, in chunks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evaluators.show.task_words import TaskWords
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun, IitRun, TaskRun
from iit_bench.types import Outcome, Question, TaskItem
from reports.samples.questions import SampleSet
from reports.samples.scripts import Chunks, Put, numbers, put_script, short

CODES: dict[Outcome, str] = {"correct": "c", "wrong": "w", "unparsed": "u", "truncated": "t", "error": "e"}
NOT_ASKED = "."
BLOCK = 1000  # dialogues whose rows are in memory as Python objects at once

TURN: tuple[str, ...] = (
    "position",
    "is_target",
    "choices",
    "answer",
    "logprobs",
    "chosen",
    "chosen_norm",
    "chosen_bytes",
    "outcome",
    "reply",
)
TURN += ("prompt_tokens", "reply_tokens", "finish_reason", "reasoning", "reasoning_tokens", "evidence", "question", "moved_choices")


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """One run of the explorer: a run of the page, or an arm of one."""

    key: str  # of its scripts
    slug: str  # names it in addresses
    name: str
    own: SampleSet
    run: AnyRun
    arm: str = ""  # "" = as the benchmark asks
    base: str = ""  # slug of the run that it is compared with at first, where the page has it
    style: int | None = None  # of its swatch
    words: tuple[str, ...] = ()  # how it was asked


def write_answers(put: Put, one: SampleRun, asked: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], str]:
    """Write a run's answers and prompts.

    Args:
        put: takes the files.
        one: the run.
        asked: of an arm, where the dialogues are as it asked them, as `arms.AskedByArms.write` returns it.

    Returns:
        What the page's catalogue says of the run; and its outcomes, a letter of `CODES` per dialogue or item of its set.
    """
    index = _write_turns(put, one) if one.run.run["suite"] == "iit" else _write_items(put, one)
    if asked is not None:
        index["asked"] = asked
    put_script(put, one.key, index)
    entry: dict[str, Any] = {"key": one.key, "slug": one.slug, "name": one.name, "set": one.own.key, "arm": one.arm, "base": one.base}
    return entry | {"style": one.style, "words": list(one.words), "prompts": "prompts" in index}, index["outcomes"]


def change(mine: str, base: str) -> str:
    """What became of an item against another run, of their letters: a name of `TRANSITIONS`; "" where one has no answer."""
    if {mine, base} & {NOT_ASKED, CODES["error"]}:
        return ""
    was, is_now = base == CODES["correct"], mine == CODES["correct"]
    return ("kept" if is_now else "lost") if was else ("gained" if is_now else "never")


# ---------------------------------------------------------------- suite iit


def _write_turns(put: Put, one: SampleRun) -> dict[str, Any]:
    run = cast(IitRun, one.run)
    columns = run.prediction_columns(("dialogue", *TURN))
    rows_of = rows_by_place(columns["dialogue"].to_pylist(), one.own)
    errors = {(error["dialogue"], error["position"]): [error["reason"], error["detail"]] for error in run.errors}
    questions = {} if one.own.benchmark is None else one.own.benchmark.questions
    answers = Chunks(put, f"{one.key}-a")
    outcomes = []
    for place, turns in blocks(columns, TURN, rows_of, len(one.own.asked)):
        dialogue = one.own.asked[place].id
        targets = [turn for turn in turns if turn["is_target"]]
        outcomes.append(CODES[targets[-1]["outcome"]] if targets else NOT_ASKED)
        answers.add([turn_entry(turn, questions.get(turn["question"]), errors.get((dialogue, turn["position"]))) for turn in turns])
    index = {"outcomes": "".join(outcomes), "answers": answers.end()}
    prompts = run.prompt_columns()
    if prompts is not None:
        index["prompts"] = _write_prompts(put, one, prompts)
    return index


def _write_prompts(put: Put, one: SampleRun, columns: Mapping[str, Any]) -> list[int]:
    chunks = Chunks(put, f"{one.key}-p")
    rows_of = rows_by_place(columns["dialogue"].to_pylist(), one.own)
    for _, turns in blocks(columns, ("position", "prompt", "image_places"), rows_of, len(one.own.asked)):
        chunks.add([[turn["position"], short(turn["prompt"]), turn["image_places"]] for turn in turns])
    return chunks.end()


def rows_by_place(dialogues: Sequence[str], own: SampleSet) -> dict[int, list[int]]:
    """The rows of each place of a set, from the id of the dialogue of each row."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, dialogue in enumerate(dialogues):
        if (place := own.places.get(dialogue)) is not None:
            rows[place].append(row)
    return rows


def blocks(
    columns: Mapping[str, Any], names: Sequence[str], rows_of: Mapping[int, Sequence[int]], count: int
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows of each place, in order, read from the columns block by block."""
    import pyarrow as pa

    for start in range(0, count, BLOCK):
        places = range(start, min(start + BLOCK, count))
        rows = [row for place in places for row in rows_of.get(place, ())]
        taken = {name: columns[name].take(pa.array(rows, pa.int64())).to_pylist() for name in names if name in columns}
        made = iter([dict(zip(taken, values, strict=True)) for values in zip(*taken.values(), strict=True)])
        for place in places:
            yield place, [next(made) for _ in rows_of.get(place, ())]


def turn_entry(turn: Mapping[str, Any], question: Question | None, error: Sequence[str] | None) -> dict[str, Any]:
    """One scored turn as JSON, without what the page knows from elsewhere: a reply that is the chosen choice, empty fields."""
    chosen = turn["chosen"]
    entry: dict[str, Any] = {"p": turn["position"], "o": CODES[turn["outcome"]], "k": chosen}
    choices = tuple(turn["choices"])
    if question is None or choices != question.choices or turn["answer"] != question.answer:
        entry |= {"c": [short(choice) for choice in choices], "a": turn["answer"]}
    if turn["logprobs"]:
        entry["l"] = numbers(turn["logprobs"])
        entry |= {key: turn[name] for key, name in (("n", "chosen_norm"), ("b", "chosen_bytes")) if turn[name] != chosen}
    if not turn["logprobs"] or not 0 <= chosen < len(choices) or turn["reply"] != choices[chosen]:
        entry["y"] = short(turn["reply"])
    texts = {"z": turn.get("reasoning"), "f": turn.get("finish_reason"), "v": turn.get("evidence")}
    entry |= {key: short(text) for key, text in texts.items() if text}
    if turn.get("moved_choices"):
        entry["m"] = list(turn["moved_choices"])
    entry["t"] = [turn["prompt_tokens"], turn["reply_tokens"], turn.get("reasoning_tokens") or 0]
    return entry | ({"x": [short(str(text)) for text in error]} if error else {})


# ---------------------------------------------------------------- suites text and vqa


def _write_items(put: Put, one: SampleRun) -> dict[str, Any]:
    run = cast(TaskRun, one.run)
    metrics = {task.task: task.metric for task in run.results.tasks}
    errors = {(error["task"], error["item"]): [error["reason"], error["detail"]] for error in run.errors if "task" in error}
    by_place: dict[int, list[Any]] = defaultdict(list)
    for item in run.items:
        by_place[one.own.places[item_id(item.task, item.item)]].append(item)
    answers, words = Chunks(put, f"{one.key}-a"), TaskWords(run)
    outcomes = []
    for place in range(len(one.own.asked)):
        rows = by_place.get(place, [])
        if not rows:
            outcomes.append(NOT_ASKED)
            answers.add([])
            continue
        first = next((row for row in rows if row.metric == metrics.get(row.task)), rows[0])
        outcomes.append(CODES[first.outcome])
        error = errors.get((first.task, first.item))
        scores = [[row.metric, *numbers([row.score])] for row in rows]
        entry = {"p": 0, "o": CODES[first.outcome], "y": short(first.reply), "s": scores, "g": first.cluster} | _choices(words, one, first)
        answers.add([entry | ({"x": [short(str(text)) for text in error]} if error else {})])
    return {"outcomes": "".join(outcomes), "answers": answers.end()}


def _choices(words: TaskWords, one: SampleRun, item: TaskItem) -> dict[str, Any]:
    """The log-probabilities of an item's choices and the chosen one, where the tool's files hold them."""
    try:
        answered = words.answered(one.name, item, "")
    except UserError:  # damaged files
        return {}
    known = {"l": numbers(answered.logprobs)} if answered.logprobs else {}
    return known if answered.chosen is None else known | {"k": answered.chosen}


def item_id(task: str, item: str) -> str:
    """What the explorer calls an item of a task."""
    return f"{task}:{item}"

"""Pages of dialogues that need no JavaScript: the same contents as the explorer's, in the benchmark's order, without filters.

Of a set with more than `MOST` dialogues or items the pages have those that a run lost or gained against its base, then those that a run
got wrong, then the first others; every page says how many are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.arms.names import ARMS
from iit_bench.types import Dialogue, Image, Question
from reports import links
from reports.cells import MINUS, count
from reports.page import render
from reports.pages import Site
from reports.samples.answers import CODES, NOT_ASKED, TURN, SampleRun, blocks, change, rows_by_place
from reports.samples.arms import AskedByArms
from reports.samples.gather import Plan
from reports.samples.pictures import Pictures
from reports.samples.questions import SampleSet, item_words, parts_of
from reports.samples.scripts import Put

MOST = 2000  # dialogues or items of a set
PER_PAGE = 50
LONGEST = 2000  # characters of one text; the rest is counted
NAMES = {code: outcome for outcome, code in CODES.items()}


@dataclass(frozen=True)
class StaticPage:
    """One page, as the explorer's list of pages names it."""

    address: str  # relative to samples/
    first: str  # what it begins and ends with
    last: str
    of_set: str
    count: int
    shown: int  # of the set on all pages
    total: int  # of the set


def write_pages(put: Put, plan: Plan, outcomes: Mapping[str, str], pictures: Pictures, arms: AskedByArms, site: Site) -> list[StaticPage]:
    """Write all pages and return them in order. `outcomes`: of each run by its key, as `write_answers` returns them."""
    made: list[tuple[StaticPage, list[dict[str, Any]]]] = []
    for own in plan.sets:
        runs = [run for run in plan.runs if run.own is own]
        chosen = choose(len(own.asked), [outcomes[run.key] for run in runs], [_base(run, runs, outcomes) for run in runs])
        entries = list(_entries(own, runs, chosen, outcomes, pictures, arms))
        for start in range(0, len(entries), PER_PAGE):
            part = entries[start : start + PER_PAGE]
            address = f"pages/{own.key}-{start // PER_PAGE + 1}.html"
            page = StaticPage(address, part[0]["id"], part[-1]["id"], own.name, len(part), len(chosen), len(own.asked))
            made.append((page, part))
    for number, (page, part) in enumerate(made):
        around = {"before": made[number - 1][0] if number else None, "after": made[number + 1][0] if number + 1 < len(made) else None}
        context = {
            "navigation": site.navigation(links.SAMPLES, deeper=page.address.count("/")),
            "page": page,
            "number": number + 1,
            "of": len(made),
            "entries": part,
            "left_out": page.total - page.shown,
        }
        put(page.address, render("samples_page.html", context | around).encode("utf-8", "replace"))
    return [page for page, _ in made]


def choose(total: int, outcomes: Sequence[str], bases: Sequence[str | None], most: int = MOST) -> list[int]:
    """The places that pages show, in order: changed hands, then wrong, then the first others.

    Args:
        outcomes: of each run, a letter of `CODES` per place.
        bases: outcomes of the run that each is compared with; None for none.
    """
    if total <= most:
        return list(range(total))

    def rank(place: int) -> int:
        changes = {change(mine[place], base[place]) for mine, base in zip(outcomes, bases, strict=True) if base is not None}
        if changes & {"lost", "gained"}:
            return 0
        return 1 if any(mine[place] not in (CODES["correct"], NOT_ASKED) for mine in outcomes) else 2

    return sorted(sorted(range(total), key=lambda place: (rank(place), place))[:most])


def _base(run: SampleRun, runs: Sequence[SampleRun], outcomes: Mapping[str, str]) -> str | None:
    base = next((other for other in runs if other.slug == run.base and not other.arm and other is not run), None)
    return None if base is None else outcomes[base.key]


def _entries(
    own: SampleSet,
    runs: Sequence[SampleRun],
    chosen: Sequence[int],
    outcomes: Mapping[str, str],
    pictures: Pictures,
    arms: AskedByArms,
) -> Iterator[dict[str, Any]]:
    """What the template shows of each chosen place."""
    dialogues = own.dialogues()
    answers = {run.key: _answers(run, chosen) for run in runs}
    bases = {run.key: _base(run, runs, outcomes) for run in runs}
    for place in chosen:
        asked = own.asked[place]
        dialogue = dialogues.get(asked.id)
        turns = []
        if dialogue is not None and own.benchmark is not None:
            questions = [own.benchmark.questions[turn] for turn in dialogue.turns]
            connectors = dialogue.connectors or ("",) * len(questions)
            turns = [_turn(question, connector, pictures) for question, connector in zip(questions, connectors, strict=True)]
        elif own.items:
            text, choices, answer = item_words(own, asked.id)
            shown = [(_cut(choice), number == answer) for number, choice in enumerate(choices)]
            turns = [{"connector": "", "parts": [{"text": _cut(text)}], "choices": shown}] if text else []
        rows = []
        for run in runs:
            letter, base = outcomes[run.key][place], bases[run.key]
            if letter != NOT_ASKED:
                moved = "" if base is None else change(letter, base[place])
                rows.append({"name": run.name, "arm": run.arm, "outcome": NAMES[letter], "change": moved, **answers[run.key][place]})
        of_place = [run for run in runs if run.arm and outcomes[run.key][place] != NOT_ASKED]
        changed = [] if dialogue is None else _as_arms_asked(of_place, dialogue, pictures, arms)
        facts = {"id": asked.id, "tier": asked.tier, "source": asked.source, "subject": asked.subject}
        yield {**facts, "turns": turns, "rows": rows, "arms": changed}


def _as_arms_asked(runs: Sequence[SampleRun], dialogue: Dialogue, pictures: Pictures, arms: AskedByArms) -> list[dict[str, Any]]:
    """What each arm changed of a dialogue, in a sentence, and the turns that it changed; once where runs were asked alike."""
    found: dict[Any, dict[str, Any]] = {}
    for run in runs:
        if (chat := arms.of(run, dialogue)) is not None:
            turns = [(turn + 1, _parts(message, pictures)) for turn, message in chat.changed.items()]
            found.setdefault((run.arm, tuple(chat.changed.items())), {"arm": run.arm, "changes": ARMS[run.arm].changes, "turns": turns})
    return list(found.values())


def _parts(message: Iterable[str | Image], pictures: Pictures) -> list[dict[str, Any]]:
    """What the template shows of a message. A picture ends its line, so the line break after it would be an empty one."""
    shown: list[dict[str, Any]] = []
    for part in message:
        if isinstance(part, Image):
            shown.append({"image": pictures.shown(part)})
        else:
            shown.append({"text": _cut(part.removeprefix("\n") if shown and "image" in shown[-1] else part)})
    return shown


def _turn(question: Question, connector: str, pictures: Pictures) -> dict[str, Any]:
    parts = _parts(parts_of(question), pictures)
    choices = [(_cut(choice), place == question.answer) for place, choice in enumerate(question.choices)]
    return {"connector": connector, "parts": parts, "choices": choices}


def _answers(run: SampleRun, chosen: Sequence[int]) -> dict[int, dict[str, str]]:
    """Of each chosen place, what the run replied to its target, or why it could not, and the log-probability of each choice."""
    if run.run.run["suite"] != "iit":
        return _replies(run, set(chosen))
    columns = run.run.prediction_columns(("dialogue", *TURN))
    errors = {(error["dialogue"], error["position"]): _reason(error) for error in run.run.errors}
    wanted = set(chosen)
    rows_of = {place: rows for place, rows in rows_by_place(columns["dialogue"].to_pylist(), run.own).items() if place in wanted}
    found = {}
    for place, turns in blocks(columns, TURN, rows_of, len(run.own.asked)):
        for turn in turns:
            if turn["is_target"]:
                error = errors.get((run.own.asked[place].id, turn["position"]), "")
                found[place] = {"reply": _cut(turn["reply"]), "error": error, "scores": _scores(turn["choices"], turn["logprobs"])}
    return found


def _replies(run: SampleRun, wanted: set[int]) -> dict[int, dict[str, str]]:
    from reports.samples.answers import item_id

    errors = {(error["task"], error["item"]): _reason(error) for error in run.run.errors if "task" in error}
    found: dict[int, dict[str, str]] = {}
    for item in run.run.items:
        place = run.own.places[item_id(item.task, item.item)]
        if place in wanted:
            before = found.get(place, {"reply": "", "scores": ""})
            scores = "; ".join(filter(None, (before["scores"], f"{item.metric} {item.score:.4g}".replace("-", MINUS))))
            found[place] = {"reply": _cut(item.reply), "error": errors.get((item.task, item.item), ""), "scores": scores}
    return found


def _reason(error: Mapping[str, Any]) -> str:
    """Why there is no answer, as the run's errors have it."""
    return _cut(": ".join(filter(None, (str(error["reason"]), str(error["detail"])))))


def _scores(choices: Sequence[str], logprobs: Sequence[float]) -> str:
    texts = (
        f"{_cut(choice, 60)} {value:.2f}" if value >= 0 else f"{_cut(choice, 60)} {MINUS}{-value:.2f}"
        for choice, value in zip(choices, logprobs, strict=False)
    )
    return "; ".join(texts)


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({count(len(text) - longest)} more characters)"

"""What several sections of the page show alike: names of models and suites, chance levels, how a run was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iit_bench.storage.runs import RUN_FIELDS, SUITE_FIELDS, TaskRun
from iit_bench.types import Figure, TaskSuite, TierResult, tier_order
from reports.cells import NOT_AVAILABLE, Cell, duration, missing_cell, number_cell, percent, text_cell
from reports.entries import Entry, plain
from reports.models import ModelRow, Models, TaskColumn

SUITE_NAMES: dict[TaskSuite, str] = {"text": "Text-only (lm-eval)", "vqa": "VQA (VLMEvalKit)"}
_SHOWN_ELSEWHERE = ("name", "model", "benchmark", "suite", "command", "arguments", "files")  # of run.json; `arguments` repeats `command`

Facts = tuple[tuple[str, str], ...]  # (term, value), for a definition list


# ---------------------------------------------------------------- models


def name_cell(entry: Entry) -> Cell:
    """An IIT run's model: its name with the swatch of its line style and its badges."""
    return Cell(entry.name, sort=entry.name.casefold(), style=entry.style, badges=entry.badges, words=True)


def row_cell(row: ModelRow) -> Cell:
    """A model's name; with swatch and badges if it has an IIT run on the page."""
    style, badges = (None, ()) if row.entry is None else (row.entry.style, row.entry.badges)
    return Cell(row.name, sort=row.name.casefold(), style=style, badges=badges, words=True)


def tool_badge(run: TaskRun) -> tuple[str, ...]:
    """Marks a number that another tool's own files hold."""
    return (str(run.run["tool"]),) if "tool" in run.run else ()


# ---------------------------------------------------------------- figures


def common_n(figures: Sequence[Figure]) -> int | None:
    """The most frequent known n of the figures that exist, the larger of equally frequent ones; None if there is none."""
    sizes = Counter(figure.n for figure in figures if figure.value is not None and figure.n)
    return max(sizes, key=lambda n: (sizes[n], n)) if sizes else None


@dataclass(frozen=True)
class Score:
    """A mean over tiers: a column of the page."""

    name: str
    field: str  # of Results
    small: str  # what its tiers are
    takes: Callable[[str], bool]  # whether a tier is one of them

    def of(self, entry: Entry, metric: str = "acc") -> Figure:
        """A run's figure."""
        figures: dict[str, Figure] = getattr(entry.run.results, self.field)
        return figures.get(metric, Figure(None, note="this run's results do not hold it"))


TEXT_ONLY = Score("text-only", "text_only_score", "tiers made only of T", lambda tier: "V" not in tier)
SCORES = (
    Score("IIT", "iit", "all tiers", lambda tier: True),
    Score("T score", "t_score", "ending in T", lambda tier: tier.endswith("T")),
    Score("V score", "v_score", "ending in V", lambda tier: tier.endswith("V")),
    TEXT_ONLY,
)


def means(known: Mapping[str, float], parts: Sequence[Sequence[str]], otherwise: str) -> list[Cell]:
    """Means of what is known by tier, a cell per part; a part is the tiers of a column."""
    cells = []
    for members in parts:
        values = [known[tier] for tier in members if tier in known]
        whole = bool(values) and len(values) == len(members)
        cells.append(Cell(percent(sum(values) / len(values))) if whole else missing_cell(otherwise if members else "no such tier"))
    return cells


def chance_by_tier(entries: Sequence[Entry]) -> dict[str, float]:
    """Mean 1/k per tier, from the run that finished most of it."""
    best: dict[str, TierResult] = {}
    for entry in entries:
        for tier, result in entry.tiers.items():
            if result.chance is not None and (tier not in best or result.acc.n > best[tier].acc.n):
                best[tier] = result
    return {tier: best[tier].chance or 0.0 for tier in sorted(best, key=tier_order)}


# ---------------------------------------------------------------- how a task was asked


def settings_apart(models: Models, column: TaskColumn) -> list[str]:
    """How it was asked, where that differs from other columns of the task."""
    siblings = [other for other in models.siblings(column) if other.ways]
    if len(siblings) < 2 or not column.ways:
        return []
    mine, others = column.ways[0].settings, [other.ways[0].settings for other in siblings]
    differing = [name for name in mine if all(name in other for other in others) and len({other[name] for other in others}) > 1]
    words = [short(name, mine[name]) for name in differing]
    hashes = {way.documents_sha256 for other in siblings for way in other.ways if way.documents_sha256}
    return words if len(hashes) < 2 else [*words, f"documents {column.ways[0].documents_sha256[:8] or 'not recorded'}"]


def short(name: str, value: str) -> str:
    """A setting in few words."""
    words = {"few-shot examples": f"{value}-shot", "chat template": "chat" if value == "yes" else "no chat"}
    return words.get(name, f"{name}: {value}")


# ---------------------------------------------------------------- how a run was done


@dataclass(frozen=True)
class RunCard:
    """One run's section: how to run it again, and what it ran on."""

    head: Cell
    facts: Facts
    command: str


def run_facts(header: Mapping[str, Any], folder: str) -> Facts:
    """run.json in words; its fields in the order of storage.runs.RUN_FIELDS, then those of the suites text and vqa."""
    model: Mapping[str, Any] = header["model"]
    names = {
        "name": "model",
        "checkpoint": "checkpoint",
        "checkpoint_sha256": "checkpoint sha256",
        "chat_template_sha256": "chat template sha256",
        "system_prompt": "system prompt",
        "accepts_images": "takes images",
        "blind": "images removed (blind)",
        "parameters": "parameters",
        "dtype": "precision",
        "device": "device",
        "max_context": "context, tokens",
        "settings": "settings",
        "details": "details",
    }
    facts = [("run folder", folder), ("suite", plain(header["suite"]))]
    facts += [(words, plain(model[key]) or "none") for key, words in names.items() if key in model]
    facts += [
        (key, plain(header[key]) or "none") for key in {**RUN_FIELDS, **SUITE_FIELDS} if key in header and key not in _SHOWN_ELSEWHERE
    ]
    return tuple((words.replace("_", " "), value) for words, value in facts)


def seconds_cell(seconds: Any) -> Cell:
    """A duration, sorted by seconds; NOT_AVAILABLE for what is no number."""
    return number_cell(seconds, duration(seconds)) if is_number(seconds) else text_cell(NOT_AVAILABLE)


def tokens_cell(tokens: Any) -> Cell:
    """`tokens` is a number, or a dict of prompt and reply tokens."""
    if isinstance(tokens, Mapping):
        tokens = sum(value for value in tokens.values() if is_number(value))
    return number_cell(tokens if is_number(tokens) else None)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

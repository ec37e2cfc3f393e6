"""The section of a model's page on its arms: what one changed thing costs (docs/spec/iit.md#gap-of-an-arm)."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.arms.figures import ArmFigures, Orders, arms_of
from evaluators.arms.names import ARMS, REASONS
from reports.cells import (
    PAIRED_COLUMNS,
    Cell,
    Column,
    Table,
    count,
    figure_cell,
    in_percent,
    interval,
    missing_cell,
    paired_cell,
    paired_cells,
    percent,
    text_cell,
)
from reports.section import Folded, Part, Section, TablePart, Words
from reports.subject import Subject

KEY, HEADING = "arms", "With one thing changed"
_CAPTION = (
    "The model's targets asked again, with one thing changed per row: accuracy of the run minus the accuracy so, over the same items, in "
    "percentage points; positive = what the change costs. Small print: 95% interval, p adjusted by Holm. Bold: adjusted p < 0.05."
)


def arms_section(subject: Subject) -> Section | None:
    """The arms of a run; None where it has none."""
    found = arms_of(subject.entry.run)
    if not found:
        return None
    parts: list[Part] = [Words(sentence, "lead") for sentence in filter(None, [in_words(found)])]
    parts.append(TablePart(_pooled(found)))
    with_tiers = [one for one in found if one.per_tier]
    if with_tiers:
        parts.append(Folded("By tier", (TablePart(_by_tier(with_tiers)),)))
    parts += [part for one in found if one.orders is not None for part in _orders(one.orders)]
    return Section(KEY, HEADING, tuple(parts))


def in_words(arms: Sequence[ArmFigures]) -> str:
    """A sentence with the largest cost; "" where no change costs anything."""
    most = max(arms, key=lambda one: one.pooled.difference.value or 0.0)
    gap = most.pooled.difference
    if not gap.value or gap.value < 0:
        return ""
    return (
        f"What costs most is “{ARMS[most.arm].title}”: {percent(gap.value)} percentage points of the accuracy on {count(gap.n)} targets "
        f"({interval(gap, signed=True)})."
    )


def _pooled(arms: Sequence[ArmFigures]) -> Table:
    columns = (
        Column("arm", words=True),
        Column("what is changed", words=True),
        Column("over", words=True),
        Column("run", ("accuracy, %",)),
        Column("arm", ("accuracy, %",)),
        Column("gap", ("points",)),
        Column("not asked", ("dialogues",), words=True),
    )
    return Table("arms-pooled", _CAPTION, columns, tuple(_pooled_row(one) for one in arms))


def _pooled_row(one: ArmFigures) -> tuple[Cell, ...]:
    arm = ARMS[one.arm]
    several = len(one.left_out) > 1
    reasons = [f"{count(n)}: {REASONS.get(key, key)}" if several else REASONS.get(key, key) for key, n in one.left_out.items()]
    shown = (figure_cell(one.acc, show_n=False), figure_cell(one.arm_acc, show_n=False), paired_cell(one.pooled, show_n=True))
    if one.pooled.difference.value is None:
        shown = (Cell("–"), Cell("–"), missing_cell(one.pooled.difference.note))
    incomplete = ("incomplete",) if one.run is not None and not one.run.results.complete else ()
    name = Cell(one.arm, sort=one.arm, words=True, badges=incomplete)
    total = sum(one.left_out.values())
    return (name, text_cell(arm.changes), text_cell(one.pooled.over), *shown, Cell(count(total), tuple(reasons), total, words=True))


def _by_tier(arms: Sequence[ArmFigures]) -> Table:
    rows = tuple((text_cell(one.arm), text_cell(result.over), *paired_cells(result)) for one in arms for result in one.per_tier)
    caption = "The same by tier: run (A) minus arm (B). p Holm is adjusted over the tiers of an arm."
    return Table("arms-by-tier", caption, (Column("arm", words=True), Column("tier (A)", words=True), *PAIRED_COLUMNS), rows)


def _orders(orders: Orders) -> tuple[Part, ...]:
    """What the order of the choices changes."""
    flips, right = orders.flip_rate, orders.always_right
    if flips.value is None or right.value is None:
        return (Words(f"Order of the choices: not available, {flips.note}.", "none"),)
    words = (
        f"Order of the choices: of {count(flips.n)} items asked in every rotation, the model changes its choice in "
        f"{in_percent(flips.value)}, and is right in all orders in {in_percent(right.value)}."
    )
    columns = (Column("choices moved by", words=True), Column("accuracy", ("%",)))
    rows = tuple((text_cell(_places(places)), figure_cell(figure)) for places, figure in enumerate(orders.accuracy))
    summary = (
        (text_cell("choice changes (flip rate)"), figure_cell(flips)),
        (text_cell("right in every order"), figure_cell(right)),
    )
    caption = "Accuracy with the choices moved by so many places, over the items that have more choices than that."
    return (Words(words), TablePart(Table("arms-orders", caption, columns, (*rows, *summary))))


def _places(places: int) -> str:
    return "not moved (the run)" if not places else f"{places} place{'s' if places > 1 else ''}"

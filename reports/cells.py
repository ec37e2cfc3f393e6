"""How a figure becomes the words of a table cell: one place decides decimals, signs, intervals and what "not available" looks like.

Accuracies are shown in percent, differences in percentage points, both with one decimal; tooltips give everything the record holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from evaluators.iit.comparison import TEST_NAMES
from iit_bench import numerals
from iit_bench.types import Figure, PairedResult

MINUS = "\N{MINUS SIGN}"
NOT_AVAILABLE = "not available"
ALPHA = 0.05  # of what is set bold


@dataclass(frozen=True)
class Cell:
    """One cell. Every text is untrusted; the template escapes it."""

    text: str
    lines: tuple[str, ...] = ()  # small print below: interval, n, reason
    sort: float | str | None = None  # what the column is sorted by; None sorts last
    title: str = ""  # tooltip; what a reader needs is also elsewhere on the page
    strong: bool = False
    missing: bool = False  # there is no figure; `lines` give the reason
    style: int | None = None  # number of the model's line style, for its swatch
    badges: tuple[str, ...] = ()
    words: bool = False  # text, set left; otherwise a number, set right
    href: str = ""  # address within the report that the text leads to, made by reports/links.py
    test: PairedResult | None = None  # whose adjusted p it shows; reports/families.py adjusts it over the page
    judged: bool = False  # set bold by that p; then the last of `lines` shows it
    links: tuple[tuple[str, str], ...] = ()  # (text, address) of several links, after the text


@dataclass(frozen=True)
class Column:
    """The head of one column of a table, and how its cells are set. Every text is untrusted; the template escapes it."""

    label: str
    small: tuple[str, ...] = ()  # small print below, each on its own line
    words: bool = False
    name: bool = False  # headed by a model's name, of any length
    code: bool = False  # a tier's pattern, set in monospace
    divider: bool = False  # a rule at its left
    sorted: bool = False  # the table's rows are in its order, highest first
    over: str = ""  # heading over this column and its neighbours with the same


@dataclass(frozen=True)
class Table:
    """A table as the template draws it; the first cell of a row is its header."""

    key: str  # id on the page
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()  # rows for comparison that take no part in sorting
    blocks: tuple[tuple[str, int], ...] = ()  # (heading, rows), in order: each block is sorted by itself; () for one without a heading

    @property
    def bodies(self) -> list[tuple[str, tuple[tuple[Cell, ...], ...]]]:
        """The rows of each block under its heading."""
        ends = list(accumulate(n for _, n in self.blocks))
        parts = [(heading, self.rows[end - n : end]) for (heading, n), end in zip(self.blocks, ends, strict=True)]
        return parts or [("", self.rows)]

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The row over the headings: (text, columns), or nothing where no column has one."""
        if not any(column.over for column in self.columns):
            return []
        return [(text, len(list(columns))) for text, columns in groupby(self.columns, key=lambda column: column.over)]

    def __post_init__(self) -> None:
        for row in (*self.rows, *self.foot):
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.key!r} has a row of {len(row)} cells under {len(self.columns)} columns")
        if self.blocks and sum(n for _, n in self.blocks) != len(self.rows):
            raise ValueError(f"table {self.key!r} has {len(self.rows)} rows, and other numbers in its blocks")


def percent(value: float) -> str:
    """0.9123 -> "91.2"; a negative value has a true minus sign."""
    return numerals.percent(value).replace("-", MINUS)


def in_percent(value: float) -> str:
    """For a sentence, with the unit: 0.9123 -> "91.2%"."""
    return numerals.in_percent(value).replace("-", MINUS)


def points(value: float) -> str:
    """A difference in percentage points with its sign: -0.032 -> "−3.2"."""
    return numerals.points(value).replace("-", MINUS)


def p_value(p: float | None) -> str:
    """A p-value with three decimals, "< 0.001" below that, NOT_AVAILABLE for None."""
    return NOT_AVAILABLE if p is None else numerals.p_value(p).replace("<", "< ")


def count(n: int) -> str:
    """12345 -> "12 345" with thin no-break spaces, which no language reads as a decimal point."""
    return f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(n: int) -> str:
    """The sample size of a figure: 1234 -> "n 1 234" with no-break spaces; 0 -> "n unknown"."""
    return f"n\N{NO-BREAK SPACE}{count(n) if n else 'unknown'}"


def interval(figure: Figure, signed: bool = False) -> str:
    """A figure's 95% interval in percent, or, if `signed`, in signed percentage points; "" if it has none."""
    if figure.low is None or figure.high is None:
        return ""
    if signed:
        return f"{points(figure.low)} to {points(figure.high)}"
    return f"{percent(figure.low)}–{percent(figure.high)}" if figure.low >= 0 else f"{percent(figure.low)} to {percent(figure.high)}"


def figure_title(figure: Figure) -> str:
    """All that the record says, for the tooltip."""
    if figure.value is None:
        return figure.note
    parts = [numerals.fixed(figure.value, 4)]
    if figure.low is not None and figure.high is not None:
        parts.append(f"95% interval {numerals.fixed(figure.low, 4)} to {numerals.fixed(figure.high, 4)}")
    parts.append(f"n = {figure.n}" if figure.n else "n unknown")
    if figure.clusters:
        parts.append(f"{figure.clusters} clusters")
    return "; ".join([*parts, *filter(None, (figure.method, figure.note))])


def figure_cell(figure: Figure, *, show_n: bool = True, strict: Figure | None = None, signed: bool = False, strong: bool = False) -> Cell:
    """An accuracy (or, `signed`, a difference) with its interval.

    Args:
        show_n: print n; False where the column's heading has it.
        strict: the figure with errors counted as wrong, printed where it is another one.
    """
    if figure.value is None:
        return missing_cell(figure.note)
    lines = [interval(figure, signed) or "no interval"]
    if show_n:
        lines.append(size(figure.n))
    if strict is not None and strict.value is not None:
        lines.append(f"strict {percent(strict.value)}")
    text = points(figure.value) if signed else percent(figure.value)
    return Cell(text, tuple(lines), figure.value, figure_title(figure), strong)


def score_cell(figure: Figure, best: float | None, *, show_n: bool = True, lines: Sequence[str] = (), badges: tuple[str, ...] = ()) -> Cell:
    """A figure of a task: in % where the best value is 1, else in its own unit, with the best value where it is known."""
    if figure.value is None:
        return replace(missing_cell(figure.note), badges=badges)
    if best == 1:
        cell = figure_cell(figure, show_n=show_n)
    else:
        known = figure.low is not None and figure.high is not None
        bounds = f"{figure.low:.5g} to {figure.high:.5g}" if known else "no interval"
        small = [*([f"of {best:g}"] if best is not None else []), bounds, *([size(figure.n)] if show_n else [])]
        cell = Cell(f"{figure.value:.5g}".replace("-", MINUS), tuple(small), figure.value, figure_title(figure))
    return replace(cell, lines=(*cell.lines, *lines), badges=badges)


def missing_cell(reason: str) -> Cell:
    """Never a blank: what is missing, and why."""
    reason = reason.removeprefix(f"{NOT_AVAILABLE}: ") or "no reason recorded"
    return Cell(NOT_AVAILABLE, (reason,), None, reason, missing=True)


def paired_cell(result: PairedResult, show_n: bool) -> Cell:
    """A paired difference, its interval and its adjusted p; set bold where p (Holm) < 0.05."""
    if result.difference.value is None:
        return missing_cell(result.difference.note)
    p = result.p if result.p_holm is None else result.p_holm
    cell = figure_cell(result.difference, signed=True, show_n=show_n, strong=p is not None and p < ALPHA)
    title = f"{cell.title}; {TEST_NAMES[result.test]}"
    return replace(cell, lines=(*cell.lines, p_line(p)), title=title, test=None if p is None else result, judged=p is not None)


def p_line(p: float | None) -> str:
    """An adjusted p-value as small print."""
    return "no test" if p is None else f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


PAIRED_COLUMNS = (
    Column("difference", ("points, 95% interval",)),
    Column("n", ("pairs",)),
    Column("p"),
    Column("p Holm"),
    Column("test", words=True),
    Column("detectable", ("points",)),
    Column("only A", ("right in A only",)),
    Column("only B", ("right in B only",)),
)


def paired_cells(result: PairedResult) -> tuple[Cell, ...]:
    """The cells under `PAIRED_COLUMNS`."""
    difference = figure_cell(result.difference, signed=True, show_n=False)
    if result.difference.value is None:
        return (difference, *(text_cell("–", sort=None) for _ in PAIRED_COLUMNS[1:]))
    return (
        difference,
        number_cell(result.difference.n),
        number_cell(result.p, p_value(result.p)),
        replace(number_cell(result.p_holm, p_value(result.p_holm)), test=result),
        text_cell(TEST_NAMES[result.test]),
        _detectable(result),
        number_cell(result.only_a),
        number_cell(result.only_b),
    )


def _detectable(result: PairedResult) -> Cell:
    """The smallest difference that is found; a lower limit where fewer pairs differ than the test needs."""
    few = result.detectable_floor
    line = () if few is None else (f"at least {few} one way of {count(result.difference.n)}",)
    if result.detectable is None:
        return Cell(NOT_AVAILABLE, line, words=True)
    return Cell(f"{'' if few is None else '≥ '}{percent(result.detectable)}", line, sort=result.detectable)


def number_cell(value: float | None, text: str = "") -> Cell:
    """A cell that shows `text`, else the rounded value, and sorts by the value; None shows NOT_AVAILABLE and sorts last."""
    if value is None:
        return Cell(text or NOT_AVAILABLE)
    return Cell(text or count(round(value)), sort=value)


def count_cell(n: int) -> Cell:
    """How many items or clusters a figure is of; 0 where that is not known, which sorts last."""
    return number_cell(n) if n else Cell("–", title="not known")


def text_cell(text: str, *, lines: Sequence[str] = (), sort: str | None = "") -> Cell:
    """A cell of words with `lines` below, sorted by `sort`, or by the text without case if that is ""; None sorts last."""
    return Cell(text, tuple(lines), text.casefold() if sort == "" else sort, words=True)


def duration(seconds: float) -> str:
    """Whole units a reader takes in: "48 s", "3 min 20 s", "2 h 5 min"."""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{total} s"
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

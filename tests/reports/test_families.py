"""What a page prints in bold is corrected over all that it may print in bold, as statsmodels corrects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iit_bench.types import Figure, PairedResult
from reports.cells import Cell, Column, Table, p_line, p_value, paired_cell, paired_cells, text_cell
from reports.families import one_family
from reports.leaderboard import report
from reports.section import Alternatives, Beside, Folded, Part, Section, TablePart, Words
from tests.reports.conftest import MakeRun

P_VALUES = (0.0004, 0.009, 0.011, 0.02, 0.6, 0.012)


def result(p: float, p_holm: float | None = None) -> PairedResult:
    figure = Figure(0.1, low=0.01, high=0.2, n=50)
    return PairedResult(over="TT", against="T", difference=figure, test="mcnemar exact", p=p, p_holm=p_holm or p)


def judged(parts: tuple[Part, ...]) -> Iterator[Cell]:
    for part in parts:
        if isinstance(part, TablePart):
            yield from (cell for row in part.table.rows for cell in row if cell.judged)
        elif isinstance(part, Folded | Beside):
            yield from judged(part.parts)
        elif isinstance(part, Alternatives):
            yield from (cell for _, inner in part.options for cell in judged(inner))


def table(*results: PairedResult) -> TablePart:
    return TablePart(
        Table("t", "", (Column("model"), Column("TT")), tuple((text_cell("m"), paired_cell(one, show_n=True)) for one in results))
    )


@pytest.mark.oracle
def test_bold_is_holm_over_every_table_of_the_page_wherever_it_stands() -> None:
    from statsmodels.stats.multitest import multipletests

    tests = [result(p) for p in P_VALUES]
    sections = (
        Section("a", "A", (table(*tests[:2]), Beside((table(tests[2]),)))),
        Section("b", "B", (Folded("more", (table(tests[3]),)), Alternatives("Metric", (("acc", (table(*tests[4:]),)),)))),
    )
    made = one_family(sections)
    expected = multipletests(P_VALUES, method="holm")[1]
    cells = [cell for section in made for cell in judged(section.parts)]
    assert [cell.strong for cell in cells] == [p < 0.05 for p in expected] and sorted({cell.strong for cell in cells})[::-1] == [
        True,
        False,
    ]
    assert [cell.lines[-1] for cell in cells] == [p_line(p) for p in expected]


def test_a_test_in_two_tables_counts_once_and_reads_the_same_in_both() -> None:
    one, other = result(0.02), result(0.03)
    listed = TablePart(Table("list", "", tuple(Column(str(i)) for i in range(8)), (paired_cells(one), paired_cells(other))))
    (made,) = one_family((Section("a", "A", (table(one, other), table(one), listed)),))
    cells = list(judged(made.parts))
    assert [cell.lines[-1] for cell in cells] == ["p = 0.040", "p = 0.040", "p = 0.040"]
    shown = made.parts[2]
    assert isinstance(shown, TablePart) and [row[3].text for row in shown.table.rows] == ["0.040", "0.040"]
    assert made.parts[-1] == Words("Bold: p < 0.05 after Holm's correction over the 2 tests that this page may print in bold.", "fine")


def test_tests_that_are_never_bold_keep_the_family_of_their_run() -> None:
    listed = TablePart(Table("list", "", tuple(Column(str(i)) for i in range(8)), (paired_cells(result(0.02, 0.06)),)))
    section = Section("a", "A", (listed,))
    assert one_family((section,)) == (section,)
    assert p_value(0.06) == listed.table.rows[0][3].text


def test_result_without_a_test_is_no_member() -> None:
    nothing = replace(result(0.5), p=None, p_holm=None)
    (made,) = one_family((Section("a", "A", (table(nothing, result(0.04)),)),))
    assert [cell.strong for cell in judged(made.parts)] == [True]


@pytest.mark.slow
def test_every_page_with_bold_figures_tells_over_how_many_tests(make_run: MakeRun, tmp_path: Path) -> None:
    """Two models with 13 effects each and, against the base, 7 text targets: a page of both tests more than a page of one."""
    runs = [make_run("base", 0.9), make_run("a", 0.7, base="base"), make_run("b", 0.6, base="base")]
    index = report(runs, tmp_path / "report")
    counted: Callable[[str], bool] = lambda text: "tests that this page may print in bold" in text  # noqa: E731
    pages = [index, *(index.parent / "models").iterdir()]
    assert all(counted(page.read_text()) for page in pages if "adjusted p &lt; 0.05" in page.read_text())
    assert counted((index.parent / "models" / "a.html").read_text())

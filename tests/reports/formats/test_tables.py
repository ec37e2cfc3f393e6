"""CSV, LaTeX and Markdown hold the runs' figures with n and interval, and no markup of a name survives in them."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from iit_bench.errors import UserError
from reports.formats.export import RunExportOptions, export_runs


def write(runs, out, to, **more):
    return export_runs(RunExportOptions(runs=tuple(runs), out=out, to=to, **more))


def figures_in(value: Any) -> list[tuple]:
    """Every figure of a results.json, wherever it lies."""
    if isinstance(value, dict):
        if {"value", "low", "high", "n"} <= value.keys():
            return [(value["value"], value["low"], value["high"], value["n"])]
        return [figure for one in value.values() for figure in figures_in(one)]
    return [figure for one in value for figure in figures_in(one)] if isinstance(value, list) else []


def number(cell: str) -> float | None:
    return float(cell) if cell else None


def read(out) -> list[dict[str, str]]:
    with (out / "figures.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_file_has_every_figure_of_the_results_with_all_digits(make_run, make_suite_run, tmp_path):
    make_run("base", 0.9, text_only=True)
    runs = [make_run("wings", 0.7, base="base", failed=1), make_suite_run("text", "wings", {"arc_easy": 0.6}, failed=1)]
    write(runs, tmp_path / "out", "csv")
    lines = read(tmp_path / "out")
    for run, suite in zip(runs, ("iit", "text"), strict=True):
        there = [
            (number(line["value"]), number(line["low"]), number(line["high"]), int(line["n"])) for line in lines if line["suite"] == suite
        ]
        assert sorted(there, key=str) == sorted(figures_in(json.loads((run / "results.json").read_text())), key=str)


def test_a_figure_that_does_not_exist_has_its_reason(make_run, tmp_path):
    write([make_run("llm", 0.9, text_only=True)], tmp_path / "out", "csv")
    (line,) = [line for line in read(tmp_path / "out") if (line["over"], line["metric"]) == ("TV", "acc") and line["kind"] == "tier"]
    assert line["value"] == "" and line["note"] == "the model takes no images"


def test_no_cell_of_the_csv_file_is_a_formula_or_holds_a_hidden_character(make_run, tmp_path, hostile):
    runs = [make_run(name, folder=f"run-{i}", tiers=("T",)) for i, name in enumerate(hostile)]
    write(runs, tmp_path / "out", "csv")
    names = list(dict.fromkeys(line["run"] for line in read(tmp_path / "out")))
    assert len(names) == len(hostile)
    assert not [name for name in names if name[0] in "=+-@" or not name.isprintable()]
    assert "'" + hostile[0] in names and "a⟨U+202E⟩b⟨U+0000⟩c⟨U+2028⟩d" in names


class Cells(HTMLParser):
    """The cells of a page's tables, and the names of all its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@pytest.mark.oracle
def test_markdown_shows_names_as_they_are(make_run, tmp_path, hostile):
    runs = [make_run(name, folder=f"run-{i}", tiers=("T",)) for i, name in enumerate(hostile)]
    write(runs, tmp_path / "out", "markdown")
    page = Cells()
    text = (tmp_path / "out/leaderboard.md").read_text(encoding="utf-8")
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    assert page.tags <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
    assert "WWW&#46;example" in text and "http&#58;//" in text  # GitHub makes links of bare addresses, beyond the standard
    for name in hostile[:-1]:
        assert any(cell.startswith(" ".join(name.split())) for cell in page.cells), name


def test_markdown_and_latex_have_value_interval_and_n_of_a_score(make_run, tmp_path):
    run = make_run("wings", 0.7)
    iit = json.loads((run / "results.json").read_text())["iit"]["acc"]
    value, low, high = (f"{100 * iit[name]:.1f}" for name in ("value", "low", "high"))
    for to, file, dash in (("markdown", "leaderboard.md", "–"), ("latex", "scores.tex", "--")):
        write([run], tmp_path / to, to)
        text = (tmp_path / to / file).read_text(encoding="utf-8")
        assert re.search(rf"{value} .*?\({low}{dash}{high}; n.{{1,3}}{iit['n']}\)", text), to


def test_latex_has_no_command_but_ours_and_as_many_cells_as_columns(make_run, tmp_path, hostile):
    runs = [make_run(name, folder=f"run-{i}") for i, name in enumerate(hostile)]
    write(runs, tmp_path / "out", "latex")
    for file in (tmp_path / "out").glob("*.tex"):
        text = file.read_text(encoding="utf-8")
        ours = {"begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "scriptsize", "geq"}
        ours |= {f"text{name}" for name in ("backslash", "less", "greater", "bar", "asciicircum", "asciitilde")}
        body = text.removeprefix("% Needs \\usepackage{booktabs}; UTF-8.\n")
        assert set(re.findall(r"\\([A-Za-z]+)", body)) <= ours
        plain = re.sub(r"\\[&%$#_{}]", "", body)  # what is escaped
        assert "%" not in plain and "#" not in plain and "_" not in plain.replace("_score", "") and plain.count("{") == plain.count("}")
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
        rows = [line for line in plain.splitlines() if line.endswith("\\\\")]
        assert rows and {line.count("&") for line in rows} == {len(columns) - 1}
        assert not [line for line in rows if line[0] in "[*"]


def test_runs_that_were_not_asked_alike_have_tables_of_their_own(make_run, tmp_path):
    write([make_run("a"), make_run("b", style="letters")], tmp_path / "out", "latex")
    assert {"scores.tex", "scores-1.tex"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert "style (" in (tmp_path / "out/scores-1.tex").read_text()


def test_the_same_runs_in_another_order_give_the_same_bytes(make_run, tmp_path):
    runs = [make_run("a", 0.5), make_run("b", 0.8)]
    for to in ("csv", "latex", "markdown"):
        write(runs, tmp_path / to / "one", to)
        write(runs[::-1], tmp_path / to / "other", to)
        one, other = ({path.name: path.read_bytes() for path in (tmp_path / to / name).iterdir()} for name in ("one", "other"))
        assert one == other


def test_the_readme_says_what_a_format_cannot_say(make_run, tmp_path):
    manifest = write([make_run("a")], tmp_path / "out", "latex")
    assert manifest["not_said"] and all(sentence in (tmp_path / "out/README.md").read_text() for sentence in manifest["not_said"])


def test_an_export_is_not_replaced_unasked_and_a_run_is_not_taken_twice(make_run, tmp_path):
    run = make_run("a")
    write([run], tmp_path / "out", "csv")
    with pytest.raises(UserError, match="--overwrite"):
        write([run], tmp_path / "out", "csv")
    write([run], tmp_path / "out", "csv", overwrite=True)
    with pytest.raises(UserError, match="more than once"):
        write([run, run], tmp_path / "other", "csv")


def test_csv_cells_are_quoted_where_they_must_be():
    from reports.formats.csv_file import cell

    text = io.StringIO()
    csv.writer(text).writerow([cell(value) for value in ('a,"b"', "-1", -1.5, None, 3)])
    assert next(csv.reader(io.StringIO(text.getvalue()))) == ['a,"b"', "'-1", "-1.5", "", "3"]

"""A figure's files: the same bytes every time, the plotted numbers, and texts that neither a spreadsheet nor LaTeX runs."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from reports.figure_files import as_csv, as_latex, files
from reports.figures import Plot
from reports.plots import Curve, Point, curves_plot

POINTS = (Point(0.0, 1 / 3, 0.25, 0.4), Point(1.0, 0.6, 0.5, 0.7))
HOSTILE = "=HYPERLINK(1)\\input{x}%&_#$^~{}<b>"


def plot(name: str = "a model") -> Plot:
    return curves_plot([Curve(0, POINTS, name)], [(0.0, 0.25)], key="k", description="d")


@pytest.mark.slow
def test_files_have_the_same_bytes_every_time_and_no_date(drawn_figures: None) -> None:
    made = files(plot())
    assert list(made) == ["svg", "png", "pdf", "csv", "tex"] and files(plot()) == made
    assert b"Date" not in made["pdf"] and b"matplotlib" not in made["pdf"].lower()
    picture = Image.open(io.BytesIO(made["png"]))
    assert picture.format == "PNG" and picture.width > 900 and not picture.info.keys() & {"Software", "Creation Time"}
    assert "a model" in [text.text for text in ET.fromstring(made["svg"]).iter() if text.tag.endswith("}text")]


def test_csv_holds_the_plotted_numbers_unrounded_and_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(plot(HOSTILE)).decode())))
    assert rows[0] == ["model", "visual share", "accuracy", "low", "high"]
    assert [float(cell) for cell in rows[1][1:]] == [0.0, 1 / 3, 0.25, 0.4]
    assert rows[1][0] == "'" + HOSTILE
    assert rows[3] == ["chance", "0.0", "0.25", "", ""]


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    table = as_latex(plot(HOSTILE)).decode()
    line = next(line for line in table.splitlines() if "HYPERLINK" in line)
    escaped = r"=HYPERLINK(1)\textbackslash{}input\{x\}\%\&\_\#\$\textasciicircum{}\textasciitilde{}\{\}\textless{}b\textgreater{}"
    assert line == escaped + r" & 0.0000 & 0.3333 & 0.2500 & 0.4000 \\"
    assert table.startswith(r"\begin{tabular}{lrrrr}") and table.endswith("\\end{tabular}\n")

"""The files of a figure, beside the page that shows it: SVG, PNG and PDF of the drawing, CSV and LaTeX of the numbers that it shows.

The same numbers give the same bytes with the same matplotlib: no date, no name of a program, ids by a fixed salt.
"""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping

from iit_bench.numerals import fixed
from reports import links
from reports.figures import Pen, Plot, drawing, drawn, set_texts, stand_in
from reports.folder import ReportFolder
from reports.formats.latex import words
from reports.page import visible
from reports.section import Section, plots_in

# The light scheme of static/report.css.
_SERIES = ("#0067a5", "#c24a00", "#00795c", "#a63a7c", "#7a5c00", "#4a4f57", "#5a4fcf", "#8c2d04")
_PAPER = "#ffffff"
_DPI = 200
Value = str | float | int | None


def write(folder: ReportFolder, page: str, sections: Iterable[Section]) -> None:
    """Write the files of every figure of a page.

    Args:
        folder: of the report.
        page: the stem that the page's figures have in their names, as its template was given it.
        sections: of the page.

    Raises:
        UserError: no space, or no permission.
    """
    for section in sections:
        for plot in plots_in(section.parts):
            for ending, content in files(plot).items():
                folder.write(links.figure(page, plot.key, ending), content)


def files(plot: Plot) -> Mapping[str, bytes]:
    """The contents of a figure's files by the ending of their names (`links.FIGURE_FORMATS`)."""
    return {"svg": as_svg(plot), **pictures(plot), "csv": as_csv(plot), "tex": as_latex(plot)}


def pictures(plot: Plot) -> Mapping[str, bytes]:
    """A figure drawn in the colours of the light scheme, as "png" and as "pdf"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    png, pdf = io.BytesIO(), io.BytesIO()
    with drawing():
        figure = drawn(plot, _PEN)
        figure.set_facecolor(_PAPER)
        figure.set_dpi(_DPI)
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return {"png": png.getvalue(), "pdf": pdf.getvalue()}


_PEN = Pen(ink="#1a1d21", muted="#586170", rule="#dde1e6", paper=_PAPER, series=_SERIES, placed=None)


def as_svg(plot: Plot) -> bytes:
    """The page's drawing in the colours of the light scheme, on paper, with its texts."""
    made, pen = stand_in(plot)
    text = made.decode()
    colours = [(getattr(pen, name), getattr(_PEN, name)) for name in ("ink", "muted", "rule", "paper")]
    for stands_in, colour in (*colours, *zip(pen.series, _PEN.series, strict=True)):
        text = text.replace(stands_in, colour)
    for prefix, address in (("", "http://www.w3.org/2000/svg"), ("xlink", "http://www.w3.org/1999/xlink")):
        ET.register_namespace(prefix, address)
    root = ET.fromstring(text)
    set_texts(root, pen)
    root.insert(0, ET.Element("{http://www.w3.org/2000/svg}rect", {"width": "100%", "height": "100%", "fill": _PAPER}))
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def as_csv(plot: Plot) -> bytes:
    """The numbers of a figure, unrounded. A text that a spreadsheet would read as a formula has an apostrophe before it."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(plot.columns)
    writer.writerows([[_cell(value) for value in row] for row in plot.rows])
    return sink.getvalue().encode()


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    text = visible(value)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


def as_latex(plot: Plot) -> bytes:
    """The numbers of a figure as a plain `tabular`, fractions with four decimals."""
    numeric = [all(not isinstance(row[place], str) for row in plot.rows) for place in range(len(plot.columns))]
    lines = [rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}", r"\hline"]
    lines += [" & ".join(map(words, plot.columns)) + r" \\", r"\hline"]
    lines += [" & ".join(_latex_cell(value) for value in row) + r" \\" for row in plot.rows]
    return ("\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n").encode()


def _latex_cell(value: Value) -> str:
    if value is None:
        return "--"
    if isinstance(value, str):
        return words(" ".join(value.split()))
    return fixed(value, 4).replace("-", "$-$") if isinstance(value, float) else str(value)

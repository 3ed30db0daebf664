"""Plates and tables to files, and figures into the page."""

from __future__ import annotations

import csv
import io
import re
from html import escape
from pathlib import Path
from typing import Any, Final

from controller.report import style
from controller.report.plates import SERIES_ID, Plate, Table

FORMATS: Final = ("svg", "png", "pdf")
PNG_DPI: Final = 200
_LONG: Final = re.compile(r"(\d\.\d{2})\d+")  # a hundredth of a point is fine enough


def save_plate(plate: Plate, folder: Path) -> str:
    """Write the figure in every format; returns the SVG made fit for the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure = plate.figure
    figure.set_dpi(PNG_DPI)  # of images inside SVG and PDF, too
    figure.draw_without_rendering()  # fixes the layout once for all formats
    figure.set_layout_engine("none")
    paths = {kind: folder / f"{plate.name}.{kind}" for kind in FORMATS}
    # Printed by the canvases themselves: savefig would draw everything twice.
    svg: Any = FigureCanvasSVG(figure)
    svg.print_svg(paths["svg"], metadata={"Date": None, "Creator": None})
    pdf: Any = FigureCanvasPdf(figure)
    pdf.print_pdf(paths["pdf"], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.set_dpi(PNG_DPI)  # the others leave their own
    png: Any = FigureCanvasAgg(figure)
    png.print_png(paths["png"], metadata={"Software": None})
    return inline_svg(paths["svg"].read_text("utf-8"), plate.name, plate.alt)


def save_table(table: Table, path: Path) -> None:
    """Write a CSV file: a header, then plain numbers; nothing where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_cell(value) for value in row] for row in table.rows)
    path.write_text(text.getvalue(), "utf-8")


def inline_svg(svg: str, name: str, alt: str) -> str:
    """The SVG without anything that is a file's or could clash on a page: ids go or get the
    plate's name, colours become CSS variables, fonts the page's, strategies a data attribute."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(rf'id="{SERIES_ID}(\d+)-\d+"', r'data-series="\1"', body)
    body = body.replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"(font: (?:\w+ )?[\d.]+px) [^;\"]*", r"\1 var(--sans)", body)
    body = re.sub(r'="[^"]*"', lambda m: _LONG.sub(r"\1", m[0]), body)
    for light, (variable, _) in style.tints().items():
        body = body.replace(light, f"var(--fig-{variable})")
    head = re.compile(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>")
    opening = f'<svg viewBox="\\1" role="img" aria-label="{escape(alt)}">'
    return head.sub(lambda m: opening.replace("\\1", m.group(1)), body, count=1).strip()


def _cell(value: object) -> object:
    if value is None or value != value:  # NaN is the number that differs from itself
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value

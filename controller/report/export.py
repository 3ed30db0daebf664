"""Figures and tables to files, and figures into the page."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from controller.report import style
from controller.report.figure import SERIES_ID, Figure

if TYPE_CHECKING:
    import polars as pl

FORMATS: Final = ("svg", "png", "pdf")
PNG_DPI: Final = 200
_LONG: Final = re.compile(r"(\d\.\d{2})\d+")  # a hundredth of a point is fine enough
# A spreadsheet runs a text that begins so; after an apostrophe it is a text (OWASP, CSV injection).
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_DROPPED: Final = ("metadata", "style")


@contextmanager
def alone() -> Iterator[None]:
    """Draw with our look and matplotlib's own defaults: a user's matplotlibrc, good or broken, has
    no say."""
    # matplotlib looks for the file on import, first of all where the process works.
    if "matplotlib" not in sys.modules:
        with TemporaryDirectory() as empty, chdir(empty):
            Path("matplotlibrc").touch()
            import matplotlib as mpl
    else:
        import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.RC)
        yield


def save_figure(figure: Figure, folder: Path) -> str:
    """Write the figure in every format; returns the SVG made fit for the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawing = figure.drawing
    drawing.set_dpi(PNG_DPI)  # of images inside SVG and PDF, too
    drawing.draw_without_rendering()  # fixes the layout once for all formats
    drawing.set_layout_engine("none")
    # Into memory first: what a full disk does inside a canvas is anybody's guess.
    files = {kind: io.BytesIO() for kind in FORMATS}
    # Printed by the canvases themselves: savefig would draw everything twice.
    svg: Any = FigureCanvasSVG(drawing)
    svg.print_svg(files["svg"], metadata={"Date": None, "Creator": None})
    pdf: Any = FigureCanvasPdf(drawing)
    pdf.print_pdf(files["pdf"], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    drawing.set_dpi(PNG_DPI)  # the others leave their own
    png: Any = FigureCanvasAgg(drawing)
    png.print_png(files["png"], metadata={"Software": None})
    for kind, content in files.items():
        (folder / f"{figure.name}.{kind}").write_bytes(content.getvalue())
    return inline_svg(files["svg"].getvalue().decode("utf-8"), figure.name, figure.alt)


def save_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a CSV file: a header, then plain numbers; nothing where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_cell(name) for name in frame.columns)
    writer.writerows([_cell(value) for value in row] for row in frame.iter_rows())
    path.write_text(text.getvalue(), "utf-8")


def inline_svg(svg: str, name: str, alt: str) -> str:
    """Return the SVG without anything that is a file's or could clash on a page: ids go or get the
    figure's name, colours become CSS variables, fonts the page's, strategies a data attribute."""
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own file)
    for parent in list(root.iter()):
        for child in [one for one in parent if _local(one.tag) in _DROPPED]:
            parent.remove(child)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
    for element in root.iter():
        element.tag = _local(element.tag)
        given = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(_fit(given, name, frozenset(references)))
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": alt})
    return ElementTree.tostring(root, "unicode").strip()


def _local(name: str) -> str:
    """Drop the namespace of a tag or an attribute."""
    return name.rpartition("}")[2]


def _fit(given: dict[str, str], name: str, references: frozenset[str]) -> dict[str, str]:
    """Return an element's attributes as the page wants them."""
    found = {}
    for key, value in given.items():
        if key == "id" and value.startswith(SERIES_ID):
            found["data-series"] = value.removeprefix(SERIES_ID).partition("-")[0]
        elif key == "id":
            if value in references:
                found["id"] = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            found["href"] = f"#{name}-{value[1:]}"
        elif key == "href":
            found["href"] = value  # an image's data
        else:
            found[key] = _restyle(value.replace("url(#", f"url(#{name}-"))
    return found


def _restyle(value: str) -> str:
    """Shorten numbers, and take fonts and colours from the page."""
    value = re.sub(r"(font: (?:\w+ )?[\d.]+px) [^;]*", r"\1 var(--sans)", value)
    value = _LONG.sub(r"\1", value)
    for light, (variable, _) in style.tints().items():
        value = value.replace(light, f"var(--fig-{variable})")
    return value


def _cell(value: object) -> object:
    if value is None or value != value:  # NaN is the number that differs from itself
        return ""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return f"{value:.6g}" if isinstance(value, float) else value

"""Writes CAMPAIGN/report: index.html, figures/ in three formats, tables/ as CSV."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from controller.report import style
from controller.report.analysis.data import Data, ReasonerGroup, analyse
from controller.report.export import alone, save_figure, save_frame
from controller.report.figure import Figure
from controller.report.overview import Overview, overview
from controller.report.render import make_renderer
from controller.report.sections import SECTIONS
from controller.report.structure import Render, Section
from controller.report.table import Cell, Column, Table
from controller.results.campaign import Campaign, read_campaign

if TYPE_CHECKING:
    import polars as pl
    from markupsafe import Markup


PAGE: Final = "index.html"
FOLDERS: Final = ("figures", "tables")


@dataclass(frozen=True, slots=True)
class FigureView:
    """A figure, its SVG and who reasoned in what it shows."""

    figure: Figure
    svg: str
    reasoners: list[ReasonerGroup]


@dataclass(frozen=True, slots=True)
class TableView:
    """A table, the columns and rows of it that the page shows, and who reasoned in these."""

    table: Table
    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]
    reasoners: list[ReasonerGroup]


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section with everything in it."""

    section: Section
    words: Markup | str
    blocks: list[Markup]
    tables: list[TableView]
    figures: list[FigureView]


@dataclass(frozen=True, slots=True)
class PageView:
    """The whole page. ``series``: strategy -> its number in figures and tables; ``chips``: number,
    name and colour variable of the strategies that are shown; ``tints``: style.tints()."""

    campaign: Campaign
    overview: Overview
    problems: list[str]
    sections: list[SectionView]
    series: dict[str, int]
    chips: list[tuple[int, str, str]]
    tints: dict[str, tuple[str, str]]


def write_report(campaign_dir: Path) -> Path:
    """Write the report of whatever the campaign has finished; returns the page.

    An old report in the folder is replaced.

    Raises:
        InputError: ``campaign_dir`` is no campaign folder.
        OSError: the report cannot be written.
    """
    data = analyse(read_campaign(campaign_dir))
    target = campaign_dir / "report"
    target.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=".new-", dir=target, ignore_cleanup_errors=True) as folder:
        _write_files(data, Path(folder))
        # Only a whole report takes the place of an old one.
        for name in FOLDERS:
            shutil.rmtree(target / name, ignore_errors=True)
            (Path(folder) / name).rename(target / name)
        return (Path(folder) / PAGE).replace(target / PAGE)


def _write_files(data: Data, target: Path) -> None:
    for name in FOLDERS:
        (target / name).mkdir()
    render = make_renderer()
    with alone():
        sections = [_make_section(section, data, render, target) for section in SECTIONS]
    looks, tints = style.looks(data.strategies), style.tints()
    series = {name: k for k, name in enumerate(data.strategies)}
    view = PageView(
        campaign=data.campaign,
        overview=overview(data),
        problems=data.problems,
        sections=[one for one in sections if one.blocks or one.tables or one.figures],
        series=series,
        chips=[(series[name], name, tints[looks[name].colour][0]) for name in data.present()],
        tints=tints,
    )
    (target / PAGE).write_text(render("index.html.j2", view) + "\n", "utf-8")


def _make_section(section: Section, data: Data, render: Render, target: Path) -> SectionView:
    """Draw a section and write its files."""
    tables = [table for make in section.tables if (table := make(data))]
    figures = [figure for make in section.figures if (figure := make(data))]
    blocks = section.blocks(data, render) if section.blocks else []
    frames = {one.name: one.frame for one in tables} | {one.name: one.frame for one in figures}
    for name, frame in frames.items():
        save_frame(frame, target / "tables" / f"{name}.csv")
    words = ""
    if section.words and (tables or figures or blocks):
        words = render(f"words/{section.words}", section.view(data) if section.view else None)
    return SectionView(
        section,
        words,
        blocks,
        [_view_table(table, data) for table in tables],
        [_view_figure(figure, data, target) for figure in figures],
    )


def _view_table(table: Table, data: Data) -> TableView:
    kept, rows = table.kept(), table.page_rows()
    columns = [table.columns[k] for k in kept]
    named = {column.title for column in columns} | _named(table.frame)
    reasoners = data.reasoners([s for s in data.strategies if s in named], in_short=True)
    return TableView(table, columns, [(s, [row[k] for k in kept]) for s, row in rows], reasoners)


def _view_figure(figure: Figure, data: Data, target: Path) -> FigureView:
    named = _named(figure.frame) | set(figure.frame.columns)
    reasoners = data.reasoners([s for s in data.strategies if s in named], in_short=True)
    return FigureView(figure, save_figure(figure, target / "figures"), reasoners)


def _named(frame: pl.DataFrame) -> set[str]:
    """Return the words in a frame's cells, strategies among them."""
    import polars as pl

    return {str(word) for column in frame.select(pl.col(pl.String)) for word in column.unique()}

"""A table of the page and its CSV file, both from one polars frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Final

from controller.report.text import NONE
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl

Row = Mapping[str, Any]  # a row of the frame by column


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the page: its text, what it is sorted by, an addition in small print."""

    text: str
    sort: float | str | None = None
    small: str = ""
    best: bool = False
    kind: str = ""  # a CSS class


EMPTY: Final = Cell(NONE, kind="none")


def plain(row: Row, key: str) -> Cell:
    """Write a value as it is."""
    return Cell(str(row[key]))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the page. ``key``: its column in the frame, whose value ``format`` writes;
    ``hint`` explains it; ``kind`` is a CSS class of its cells."""

    key: str
    title: str
    format: Callable[[Row, str], Cell] = plain
    hint: str = ""
    numeric: bool = True


STRATEGY: Final = Column("strategy", "Strategy", numeric=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``frame``: what the CSV file holds; ``columns``: what the page shows of ``shown``,
    or of ``frame`` if there is none. A column ``strategy`` lets the page switch its rows."""

    name: str
    caption: str
    frame: pl.DataFrame
    columns: tuple[Column, ...]
    shown: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    sortable: bool = False
    drop_empty: bool = False  # columns that show nothing in any row

    def page_rows(self) -> list[tuple[str, tuple[Cell, ...]]]:
        """Return strategy and cells of every row of the page; the first cell heads the row."""
        frame = self.frame if self.shown is None else self.shown
        rows = list(frame.iter_rows(named=True))
        return [(str(r.get("strategy", "")), tuple(c.format(r, c.key) for c in self.columns))
                for r in rows]  # fmt: skip

    def kept(self) -> list[int]:
        """Return the indices of the columns that the page shows."""
        rows = self.page_rows()
        return [
            k
            for k in range(len(self.columns))
            if not self.drop_empty or any(cells[k].kind != "none" for _, cells in rows)
        ]


def make_frame(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> pl.DataFrame:
    """Return a frame of plain values."""
    import polars as pl

    names = list(columns)
    lines = [tuple(row) for row in rows]
    data = {
        name: pl.Series(name, [line[k] for line in lines], strict=False)
        for k, name in enumerate(names)
    }
    return pl.DataFrame(data)


def frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Return a frame of rows that are mappings with the same keys."""
    lines = list(rows)
    names = lines[0].keys() if lines else ()
    return make_frame(names, ([line[name] for name in names] for line in lines))


def with_limits(key: str, interval: Interval) -> dict[str, float]:
    """Return the three values of an interval under the names KEY, KEY_low and KEY_high."""
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


def value(text: Callable[[Any], str], kind: str = "") -> Callable[[Row, str], Cell]:
    """Return a format that writes and sorts by the value; nothing where there is none."""

    def write(row: Row, key: str) -> Cell:
        found = row[key]
        if found is None or found != found:  # NaN is the number that differs from itself
            return EMPTY
        return Cell(text(found), found, kind=kind)

    return write


def words(kind: str) -> Callable[[Row, str], Cell]:
    """Return a format that writes a text in a CSS class."""
    return lambda row, key: Cell(str(row[key]), kind=kind)


def count(row: Row, key: str) -> Cell:
    """Write a count; 0 is nothing to show."""
    number = row[key]
    return Cell(f"{number:,}", number) if number else Cell("0", 0, kind="none")


def mean(digits: int, unit: str = "", best: str = "") -> Callable[[Row, str], Cell]:
    """Return a format that writes a mean with half its interval in small print. ``best``: the text
    of the best mean, which is bold."""

    def write(row: Row, key: str) -> Cell:
        found, high = row[key], row[f"{key}_high"]
        if found is None or isnan(found):
            return EMPTY
        small = "" if high is None or isnan(high) else f"± {high - found:.{digits}f}"
        is_best = f"{found:.{digits}f}" == best
        return Cell(f"{found:,.{digits}f}{unit}", found, small, is_best)

    return write

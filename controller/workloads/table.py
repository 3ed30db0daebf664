"""CSV tables of numbers, whose errors name the file and the line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.files import read_regular

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_BYTES = 500_000_000  # of a table; some ten million requests


def read_bytes(path: Path) -> bytes:
    """Return the file's content.

    Raises:
        InputError: the file cannot be read, or is no regular file of up to MAX_BYTES.
    """
    return read_regular(path, MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Lines:
    """Reader of numbers from columns of text; errors name the line of the file."""

    source: str
    lines: Sequence[int]

    def numbers(self, name: str, cells: Iterable[str]) -> Floats:
        """Return finite numbers, 0 or more; shape (R,).

        Raises:
            InputError: a cell is not such a number.
        """
        values = []
        for row, cell in enumerate(cells):
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not 0 <= value < math.inf:
                raise InputError(
                    f"{self.source}, line {self.lines[row]}", "is no finite number, 0 or more",
                    field=name, value=cell,
                )  # fmt: skip
            values.append(value)
        return np.array(values, dtype=np.float64)

    def optional(self, name: str, cells: Sequence[str] | None, rows: int) -> Floats:
        """Return the column as :meth:`numbers` does, with NaN for empty cells or a missing
        column."""
        values = np.full(rows, np.nan)
        if cells is not None:
            given = [row for row, cell in enumerate(cells) if cell != ""]
            lines = Lines(self.source, [self.lines[row] for row in given])
            values[given] = lines.numbers(name, [cells[row] for row in given])
        return values

    def refuse(self, rows: Ints, name: str, problem: str) -> None:
        """Raise InputError for the first of ``rows``, if there is one."""
        if len(rows):
            raise InputError(f"{self.source}, line {self.lines[rows[0]]}", problem, field=name)


def decode(content: bytes, source: str) -> str:
    """Return the text of a UTF-8 file with any line endings, with or without BOM.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            source,
            f"is not UTF-8 text: {error.reason} at byte {error.start}",
            remedy="save it as UTF-8",
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(
    text: str, source: str, known: Sequence[str], required: Sequence[str], first_line: int = 1
) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, the rows and the rows' line numbers of a CSV text that starts at line
    ``first_line`` of its file. Cells are stripped; blank lines are skipped.

    Raises:
        InputError: no header, unknown or missing columns, or a row of another length.
    """
    reader = csv.reader(io.StringIO(text))
    rows, lines = [], []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(first_line - 1 + reader.line_num)
    except csv.Error as error:
        line = first_line - 1 + reader.line_num
        raise InputError(f"{source}, line {line}", f"is no CSV: {error}") from error
    header = rows[0] if rows else []
    _check_header(header, f"{source}, line {lines[0] if lines else first_line}", known, required)
    for cells, line in zip(rows[1:], lines[1:], strict=True):
        if len(cells) != len(header):
            raise InputError(
                f"{source}, line {line}", f"{len(cells)} cells instead of {len(header)}",
                remedy=f"the columns are {','.join(header)}",
            )  # fmt: skip
    return header, rows[1:], lines[1:]


def _check_header(
    header: list[str], where: str, known: Sequence[str], required: Sequence[str]
) -> None:
    """Raise InputError unless all columns are known, unique and complete."""
    remedy = f"columns are {','.join(known)}"
    for name in header:
        if name not in known:
            raise InputError(where, "no such column", value=name, remedy=remedy)
        if header.count(name) > 1:
            raise InputError(where, "column is there twice", value=name, remedy=remedy)
    for name in required:
        if name not in header:
            raise InputError(where, f"column {name} is missing", remedy=remedy)

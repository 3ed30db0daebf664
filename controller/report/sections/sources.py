"""Section "Sources of the numbers": where testbed and profile have their numbers from."""

from __future__ import annotations

from controller.report.analysis.data import Data
from controller.report.analysis.inputs import inputs_of
from controller.report.structure import Section
from controller.report.table import Cell, Column, Row, Table, make_frame, words


def sources(data: Data) -> Table | None:
    """Tabulate every block of numbers of testbed and profile with its source."""
    blocks = inputs_of(data).blocks
    if not blocks:
        return None
    return Table(
        name="sources",
        caption="Every block of numbers of testbed and profile, with its source.",
        frame=make_frame(
            ("numbers", "source", "how"), ((one.path, one.source, one.how) for one in blocks)
        ),
        columns=(
            Column("numbers", "Numbers", words("code"), numeric=False),
            Column("source", "Source", _source, numeric=False),
            Column("how", "How", words("words"), numeric=False),
        ),
    )


def _source(row: Row, key: str) -> Cell:
    return Cell(row[key], kind=row[key])


SECTION = Section("sources", "Sources of the numbers", tables=(sources,), folded=True)

"""Section "Beside the paper": figures in the paper's text beside ours."""

from __future__ import annotations

from controller.report.analysis import published
from controller.report.analysis.data import Data
from controller.report.structure import Section
from controller.report.table import STRATEGY, Cell, Column, Row, Table, frame_of, mean, words


def published_figures(data: Data) -> Table | None:
    """Tabulate the paper's figures beside ours; None on another testbed or load than its own."""
    if not published.applies(data):
        return None
    known = set(data.present())
    rows = []
    for claim in published.claims():
        if claim.strategy in known or claim.strategy == "MA":
            ours = claim.ours(data) if claim.strategy in known else None
            rows.append(
                {
                    "strategy": claim.strategy,
                    "quantity": claim.quantity,
                    "published": claim.published,
                    "unit": claim.unit,
                    "ours": ours.mean if ours else None,
                    "low": ours.low if ours else None,
                    "high": ours.high if ours else None,
                }
            )
    return Table(
        name="published",
        caption="What the paper's text reports, measured on its own hardware, beside ours from "
        "this campaign. They are not expected to agree.",
        frame=frame_of(rows),
        columns=(
            STRATEGY,
            Column("quantity", "Quantity", words("words"), numeric=False),
            Column("published", "Paper", _theirs),
            Column("ours", "This campaign", _ours),
        ),
    )


def _theirs(row: Row, key: str) -> Cell:
    return Cell(f"{row[key]} {row['unit']}".strip())


def _ours(row: Row, key: str) -> Cell:
    if row[key] is None:
        return Cell("not run", kind="none")
    unit = row["unit"]
    interval = {key: row[key], f"{key}_high": row["high"]}
    return mean(0 if unit == "s" else 2, f" {unit}".rstrip())(interval, key)


SECTION = Section("published", "Beside the paper", tables=(published_figures,))

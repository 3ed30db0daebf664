"""Section "Runs": every run of the grid with its state."""

from __future__ import annotations

from controller.report.analysis.data import Data
from controller.report.structure import Section
from controller.report.table import STRATEGY, Cell, Column, Row, Table, frame_of, words
from controller.report.text import NONE


def runs(data: Data) -> Table | None:
    """Tabulate every run of the grid with its state."""
    axes = tuple(dict.fromkeys(a for setting in data.settings for a, _ in setting.axes))
    shown = axes if len(data.settings) > 1 else ()
    return Table(
        name="runs",
        caption="Every run of the grid.",
        frame=frame_of(
            {
                "run": run.id,
                "strategy": run.strategy,
                "seed": run.seed,
                **{axis: run.setting.value(axis) for axis in axes},
                "state": run.state,
                "problem": run.problem,
                "objective": run.figures.objective if run.figures else None,
            }
            for run in data.campaign.runs
        ),
        columns=(
            Column("run", "Run", words("code"), numeric=False),
            STRATEGY,
            Column("seed", "Seed"),
            *(Column(axis, axis.capitalize(), _axis, numeric=False) for axis in shown),
            Column("state", "State", _state, numeric=False),
            Column("objective", "Objective", _objective),
        ),
    )


def _axis(row: Row, key: str) -> Cell:
    return Cell(str(row[key] or ""))


def _state(row: Row, key: str) -> Cell:
    return Cell(row["problem"] or row[key], kind="words")


def _objective(row: Row, key: str) -> Cell:
    return Cell(NONE if row[key] is None else f"{row[key]:.3f}")


SECTION = Section("runs", "Runs", tables=(runs,), folded=True)

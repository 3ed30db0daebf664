"""Tables as the page shows them, each with plain numbers for its CSV file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isnan

from controller.report.captions import averaged
from controller.report.formats import NONE
from controller.report.plates import Table
from controller.report.study import DIAGNOSTICS, MEASURES, Measure, Study
from controller.results.statistics import Interval


@dataclass(frozen=True, slots=True)
class Head:
    """A column's heading; ``hint`` explains it."""

    text: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, what it is sorted by, and what is added in small print."""

    text: str
    sort: float | str | None = None
    small: str = ""
    best: bool = False
    kind: str = ""  # a CSS class


@dataclass(frozen=True, slots=True)
class Row:
    """Cells; the first is the row's heading. ``strategy`` lets the page switch it."""

    cells: tuple[Cell, ...]
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of the page and its file."""

    name: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    data: Table
    sortable: bool = False
    notes: tuple[str, ...] = field(default=())


def summarise_strategies(study: Study) -> Sheet | None:
    """A row per strategy, best objective first: every measure's mean and interval over seeds."""
    ranking = study.order()
    if not ranking:
        return None
    cells = {(s, m.key): study.interval(m.key, s) for s in ranking for m in MEASURES}
    best = {m.key: _best(m, [cells[s, m.key].mean for s in study.contestants()]) for m in MEASURES}
    rows = tuple(
        Row(
            (
                Cell(s, s, "diagnostic" if s in DIAGNOSTICS else ""),
                Cell(str(cells[s, "objective"].n), cells[s, "objective"].n),
                *(_measured(m, cells[s, m.key], best[m.key]) for m in MEASURES),
            ),
            s,
        )
        for s in ranking
    )
    sheet = Sheet(
        name="summary",
        caption="Strategies on the nominal setting. "
        + averaged(study, ", ± half the width of the 95 % t-interval")
        + ". Bold is best in its column.",
        heads=(
            Head("Strategy", numeric=False),
            Head("Seeds"),
            *(Head(_title(m), hint=HINTS.get(m.key, "")) for m in MEASURES),
        ),
        rows=rows,
        data=_summary_table(study),
        sortable=True,
    )
    return without_empty_columns(sheet)


HINTS = {
    "objective": "Eq. 10: latency and unfairness, lower is better",
    "t_mean_s": "mean end-to-end latency of successes",
    "f_norm": "Jain's index over the LMs' success ratios, 1 is equal",
    "success_rate": "share of all requests answered before the deadline",
    "bound_ratio": "objective over the least possible at the same success rate",
    "pod_starts": "pods started during a run",
    "gpu_utilisation": "share of the GPUs' time with work on them",
}


def interval_cell(interval: Interval, digits: int, *, best: bool = False, unit: str = "") -> Cell:
    """A mean with the half-width of its interval in small print; a dash where there is none."""
    if not interval.n:
        return Cell(NONE, kind="none")
    small = "" if isnan(interval.low) else f"± {interval.high - interval.mean:.{digits}f}"
    text = f"{interval.mean:,.{digits}f}{unit}"
    return Cell(text, interval.mean, small, best)


def without_empty_columns(sheet: Sheet) -> Sheet:
    """The sheet without the columns that show nothing in any row; its file keeps them."""
    kept = [
        k for k in range(len(sheet.heads)) if any(r.cells[k].kind != "none" for r in sheet.rows)
    ]
    return replace(
        sheet,
        heads=tuple(sheet.heads[k] for k in kept),
        rows=tuple(replace(r, cells=tuple(r.cells[k] for k in kept)) for r in sheet.rows),
    )


def _measured(measure: Measure, interval: Interval, best: str) -> Cell:
    is_best = bool(measure.better) and f"{interval.mean:.{measure.digits}f}" == best
    return interval_cell(interval, measure.digits, best=is_best)


def _title(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _best(measure: Measure, means: list[float]) -> str:
    """The best mean as it is shown; all that read the same are best."""
    known = [mean for mean in means if not isnan(mean)]
    if len(known) < 2:
        return ""
    best = max(known) if measure.better == "high" else min(known)
    return f"{best:.{measure.digits}f}"


def _summary_table(study: Study) -> Table:
    """Every setting, not only the nominal one."""
    axes = tuple(axis for axis, _ in study.nominal.axes)
    rows = []
    for setting in study.settings:
        for strategy in study.order(setting):
            cells = [study.interval(m.key, strategy, setting) for m in MEASURES]
            limits = [value for cell in cells for value in (cell.mean, cell.low, cell.high)]
            place = [setting.value(axis) for axis in axes]
            rows.append((*place, strategy, cells[0].n, *limits))
    names = [f"{m.key}{side}" for m in MEASURES for side in ("", "_low", "_high")]
    return Table((*axes, "strategy", "seeds", *names), tuple(rows))

"""Fig. 7: the objective epoch by epoch."""

from __future__ import annotations

import numpy as np

from controller.report import published, style
from controller.report.captions import averaged
from controller.report.plates import Pen, Plate, Table, new_figure
from controller.report.study import Study
from controller.results.statistics import Interval, mean_interval


def draw_epochs(study: Study) -> Plate | None:
    """A line per strategy with its band over seeds, by epoch of birth; None below two epochs."""
    series = {s: _by_epoch(study, s) for s in study.present()}
    from matplotlib.ticker import MaxNLocator

    if not series or max(len(line) for line in series.values()) < 2:
        return None
    pen = Pen(study.strategies)
    figure = new_figure(style.FULL_IN, 3.0)
    axes = figure.add_subplot()
    for strategy, line in series.items():
        epochs = np.arange(1, len(line) + 1)
        low, high = (np.array([getattr(p, side) for p in line]) for side in ("low", "high"))
        band = axes.fill_between(
            epochs, low, high, color=pen.look(strategy).colour, alpha=0.14, lw=0
        )
        pen.mark(strategy, band)
        pen.line(axes, strategy, epochs, [p.mean for p in line], markers=8)
    axes.set_xlim(1, max(len(line) for line in series.values()))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch in which requests were born")
    axes.set_ylabel("objective (lower is better)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    pen.legend(figure, series, lines=True)
    return Plate(
        name="fig7-epochs",
        title="Objective, epoch by epoch",
        caption=_caption(study),
        alt=_alt(series),
        figure=figure,
        data=_table(series),
    )


def _by_epoch(study: Study, strategy: str) -> list[Interval]:
    runs = [run.figures.per_epoch for run in study.finished(strategy).values() if run.figures]
    return [
        mean_interval([run[epoch].objective for run in runs if epoch < len(run)])
        for epoch in range(max(len(run) for run in runs))
    ]


def _caption(study: Study) -> str:
    text = averaged(study, "; bands are 95 % t-intervals")
    text += ". A request counts where it was born."
    if published.applies(study):
        first, last = published.STABLE_EPOCHS
        text += f" The paper reports that MA is stable within {first} to {last} epochs."
    return text


def _alt(series: dict[str, list[Interval]]) -> str:
    parts = [f"{s} from {line[0].mean:.2f} to {line[-1].mean:.2f}" for s, line in series.items()]
    return "Objective in the first and the last epoch: " + "; ".join(parts) + "."


def _table(series: dict[str, list[Interval]]) -> Table:
    rows = [
        (s, epoch, p.n, p.mean, p.low, p.high)
        for s, line in series.items()
        for epoch, p in enumerate(line, 1)
    ]
    return Table(("strategy", "epoch", "seeds", "objective", "low", "high"), tuple(rows))

"""Section "Over time": Fig. 7, and one seed's run seen from the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from controller.report import style
from controller.report.analysis import published
from controller.report.analysis.data import Data
from controller.report.analysis.occupancy import MAX_NODES, STATES, Occupancy
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, draw_key, new_figure
from controller.report.structure import Section
from controller.report.table import make_frame
from controller.report.text import leading, tied
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure as Drawing

COLUMNS: Final = 2
Shown = Mapping[str, Occupancy]  # strategy -> the shown seed's run


def epochs(data: Data) -> Figure | None:
    """Draw a line per strategy with its band over seeds, by epoch of birth; None below two."""
    series = {s: data.by_epoch(s) for s in data.present()}
    from matplotlib.ticker import MaxNLocator

    if not series or max(len(line) for line in series.values()) < 2:
        return None
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 3.0)
    axes = figure.add_subplot()
    for strategy, line in series.items():
        pen.band(axes, strategy, np.arange(1, len(line) + 1), line)
    axes.set_xlim(1, max(len(line) for line in series.values()))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch in which requests were born")
    axes.set_ylabel("objective (lower is better)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    pen.legend(figure, series, lines=True)
    return Figure(
        name="fig7-epochs",
        title="Objective, epoch by epoch",
        caption=_epochs_caption(data),
        alt=_epochs_alt(series),
        drawing=figure,
        frame=_epochs_frame(series),
    )


def _epochs_caption(data: Data) -> str:
    text = averaged(data, "; bands are 95 % t-intervals")
    text += ". A request counts where it was born."
    if published.applies(data):
        first, last = published.STABLE_EPOCHS
        text += f" The paper reports that MA is stable within {first} to {last} epochs."
    return text


def _epochs_alt(series: dict[str, list[Interval]]) -> str:
    parts = [f"{s} from {line[0].mean:.2f} to {line[-1].mean:.2f}" for s, line in series.items()]
    return "Objective in the first and the last epoch: " + "; ".join(parts) + "."


def _epochs_frame(series: dict[str, list[Interval]]) -> pl.DataFrame:
    rows = [
        (s, epoch, p.n, p.mean, p.low, p.high)
        for s, line in series.items()
        for epoch, p in enumerate(line, 1)
    ]
    return make_frame(("strategy", "epoch", "seeds", "objective", "low", "high"), tuple(rows))


def backlog(data: Data) -> Figure | None:
    """Draw a panel per strategy: nodes down, time across, prompts at the node as colour."""
    seed, shown = data.occupancies.seed, data.occupancies.by_strategy
    if not shown:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    nodes = max(len(o.nodes) for o in shown.values())
    pen = Pen(data.strategies)
    figure, panels = _panels(shown, min(1.5, 0.085 * nodes + 0.28))
    top = max(1.0, max(float(o.backlog.max()) for o in shown.values()))
    norm, colours = PowerNorm(0.5, 0, top), _heat()
    for axes, (strategy, occupancy) in zip(panels, shown.items(), strict=True):
        axes.imshow(
            occupancy.backlog, aspect="auto", interpolation="nearest", cmap=colours, norm=norm,
            extent=_extent(data, occupancy, len(occupancy.nodes)),
        )  # fmt: skip
        pen.mark(strategy, axes)
        _label_panel(axes, strategy, occupancy.nodes, 1)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=panels, fraction=0.025, pad=0.015, aspect=40
    )
    bar.set_label("prompts at the node (mean)", fontsize=7)
    bar.outline.set_linewidth(0.4)
    totals = {s: float(o.backlog.sum(axis=0).mean()) for s, o in shown.items()}
    rivals = {s: total for s, total in totals.items() if s in data.contestants()} or totals
    least = tied(rivals, "{:.0f}".format)
    return Figure(
        name="backlog",
        title=leading(
            rivals,
            least,
            "keeps the shortest queues",
            "keep the shortest queues",
            "No strategy keeps shorter queues than another",
        ),
        caption=(
            f"Prompts waiting or in service, seed {seed}, averaged over bins of time; the colour "
            "scale is a square root. The tail after the last arrivals is the drain."
        ),
        alt="Prompts in the whole cluster, mean over time: "
        + "; ".join(f"{s} {total:.0f}" for s, total in totals.items())
        + ".",
        drawing=figure,
        frame=_backlog_frame(shown),
    )


def activation(data: Data) -> Figure | None:
    """Draw a panel per strategy: (node, LM) down, time across, the pod's mode as colour."""
    seed, shown = data.occupancies.seed, data.occupancies.by_strategy
    if not shown:
        return None
    some = next(iter(shown.values()))
    nodes = min(MAX_NODES, len(some.nodes))
    pen = Pen(data.strategies)
    figure, panels = _panels(shown, 0.047 * nodes * len(some.lms) + 0.32)
    for axes, (strategy, occupancy) in zip(panels, shown.items(), strict=True):
        rows = nodes * len(occupancy.lms)
        axes.imshow(
            _paint(occupancy.pods[:nodes].reshape(rows, -1, len(STATES))), aspect="auto",
            interpolation="nearest", extent=_extent(data, occupancy, rows),
        )  # fmt: skip
        pen.mark(strategy, axes)
        _label_panel(axes, strategy, occupancy.nodes[:nodes], len(occupancy.lms))
    draw_key(figure, {name: light for name, (light, _) in style.MODES.items()})
    changing = {s: float(o.pods[..., STATES.index("changing")].mean()) for s, o in shown.items()}
    return Figure(
        name="activation",
        title="Which LM runs where",
        caption=_activation_caption(some, nodes, seed),
        alt="Share of (node, LM, time) in transition: "
        + "; ".join(f"{s} {share:.1%}" for s, share in changing.items())
        + ".",
        drawing=figure,
        frame=_activation_frame(shown),
    )


def _panels(shown: Shown, height_in: float) -> tuple[Drawing, list[Axes]]:
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(style.FULL_IN, height_in * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("time (h)", fontsize=7.5, color=style.MUTED)
    return figure, panels[: len(shown)]


def _extent(data: Data, occupancy: Occupancy, rows: int) -> tuple[float, float, float, float]:
    hours = occupancy.slots * data.constants.slot_s / 3600
    return 0.0, hours, float(rows), 0.0


def _label_panel(axes: Axes, strategy: str, nodes: tuple[str, ...], rows_a_node: int) -> None:
    axes.set_title(strategy, pad=2.5)
    axes.grid(visible=False)
    step = max(1, -(-len(nodes) // 12))
    middle = [(k + 0.5) * rows_a_node for k in range(0, len(nodes), step)]
    axes.set_yticks(middle, nodes[::step])
    axes.tick_params(axis="y", length=0, labelsize=6)
    if rows_a_node > 1:
        for k in range(1, len(nodes)):
            axes.axhline(k * rows_a_node, color=style.SURFACE, lw=1.6)


def _heat() -> Colormap:
    """Return shade from nothing to HEAT by opacity, so that it reads on light and dark pages
    alike."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    rgb = to_rgb(style.HEAT)
    return LinearSegmentedColormap.from_list("heat", [(*rgb, 0.0), (*rgb, 1.0)])


def _paint(pods: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (rows, bins, 4) shares of STATES into colours of the same shape: mixed by share, off is
    transparent, so a pod that is off half of the time is half as strong."""
    from matplotlib.colors import to_rgb

    names = list(style.MODES)
    rgb = np.array([to_rgb(style.MODES[name][0]) for name in names])
    on = pods[..., 1:]
    alpha = on.sum(axis=-1, keepdims=True)
    mixed = on @ rgb / np.where(alpha > 0, alpha, 1.0)
    return np.concatenate([mixed, np.minimum(1.0, alpha)], axis=-1)


def _activation_caption(some: Occupancy, nodes: int, seed: int | None) -> str:
    which = f"the first {nodes} of {len(some.nodes)} nodes, " if nodes < len(some.nodes) else ""
    return (
        f"Seed {seed}, {which}rows within a node from top to bottom: {', '.join(some.lms)}. "
        "Empty is off; a paler or mixed colour is a pod that changed within the column of time."
    )


def _backlog_frame(shown: Shown) -> pl.DataFrame:
    rows = [
        (s, node, b, float(value))
        for s, o in shown.items()
        for node, line in zip(o.nodes, o.backlog, strict=True)
        for b, value in enumerate(line)
    ]
    return make_frame(("strategy", "node", "bin", "backlog_prompts"), tuple(rows))


def _activation_frame(shown: Shown) -> pl.DataFrame:
    rows = [
        (s, node, lm, *(float(o.pods[n, i, :, code].mean()) for code in range(len(STATES))))
        for s, o in shown.items()
        for n, node in enumerate(o.nodes)
        for i, lm in enumerate(o.lms)
    ]
    return make_frame(
        ("strategy", "node", "lm", *(f"share_{s.lower()}" for s in STATES)), tuple(rows)
    )


SECTION = Section("time", "Over time", figures=(epochs, backlog, activation))

"""Campaigns in memory: a run is (strategy, seed, objective) on a setting."""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from controller.report.analysis.data import Data, analyse
from controller.report.overview import headline
from controller.report.render import make_environment
from controller.results.campaign import Campaign
from controller.results.run import Run, Setting, Summary

NOMINAL = {"testbed": "paper", "profile": "a", "workload": "paper", "load": 1.0}
Cell = tuple[str, int, float | None]  # None: failed


def data_of(cells: Iterable[Cell], **others: Iterable[Cell]) -> Data:
    """Cells on the nominal setting, then on one setting per keyword: ``load_0_5`` or
    ``profile_a-x`` (with dashes as double underscores)."""
    runs = [_run(cell, NOMINAL) for cell in cells]
    for name, varied in others.items():
        axis, value = name.replace("__", "-").split("_", 1)
        changed: Any = float(value.replace("_", ".")) if axis == "load" else value
        runs += [_run(cell, {**NOMINAL, axis: changed}) for cell in varied]
    return analyse(Campaign("made", "", Path("nowhere"), tuple(runs)))


def headline_of(data: Data) -> str:
    """The finding as the page words it."""
    return words_of("overview.html.j2", "headline", headline(data))


def words_of(template: str, macro: str, view: object) -> str:
    """What a macro of a template makes of a view, without markup."""
    module = make_environment().get_template(template).make_module()
    return html.unescape(str(getattr(module, macro)(view)))


def summary(objective: float, **fields: Any) -> Summary:
    """A summary with this objective and plain other figures."""
    return Summary.model_validate(
        {
            "objective": objective,
            "success_rate": 0.9,
            "bound": 0.1,
            "f_norm": 0.95,
            "t_mean_s": 100.0,
            "pod_starts": 10,
            "gpu_utilisation": 0.5,
            "per_lm": {"LM1": {"arrivals": 10, "successes": 9, "rho": 0.9, "t_mean_s": 100.0}},
            "per_epoch": [{"objective": objective}],
            **fields,
        }
    )


def _run(cell: Cell, axes: dict[str, Any]) -> Run:
    strategy, seed, objective = cell
    return Run(
        id=f"{strategy}-{seed}-{axes['load']}-{axes['profile']}",
        state="failed" if objective is None else "done",
        strategy=strategy,
        seed=seed,
        setting=Setting(tuple(axes.items())),
        figures=None if objective is None else summary(objective),
        problem="it broke" if objective is None else "",
    )

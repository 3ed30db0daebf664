"""A run's records as arrays, together with the requests that were drawn for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import DEPLOYER, LATE, SCHEDULER
from controller.domain.errors import InputError
from controller.domain.requests import FAILURES, NOWHERE, Requests, RequestTable
from controller.domain.scenario import Scenario
from controller.domain.state import MODES, STATES, UNKNOWN
from controller.results.folder import DECISIONS, REQUESTS, SLOTS
from controller.results.run import Run

if TYPE_CHECKING:
    import polars as pl

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DRAWN: Final = ("lm", "origin", "prompts", "born_s")
NO_ROW: Final = -1  # in Pods.state: nobody recorded the node's state in this slot
TIMES: Final = (
    "born_s", "arrived_s", "started_s", "finished_s", "returned_s", "uplink_s", "queue_s",
    "inference_s", "downlink_s", "latency_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Pods:
    """Pods at the end of each slot, arrays (S, N, I)."""

    state: Ints  # POD_*, or NO_ROW
    mode: Ints
    cores: Floats
    vgpus: Ints
    cards: Ints  # bit mask of physical GPUs, or UNKNOWN
    backlog: Ints

    def __len__(self) -> int:
        return len(self.state)


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One finished run.

    Args:
        requests: as drawn: work and bytes, which records lack.
        scheduler_s: (S,) seconds that a slot's plan took; NaN where none was made in time.
        deployer_s: (S, N) likewise, by node.
        faultless: no node was meant to be down, so that no transfer waited for one.
    """

    name: str
    target: str
    time_scale: float | None
    scenario: Scenario
    requests: Requests
    table: RequestTable
    pods: Pods
    scheduler_s: Floats
    deployer_s: Floats
    faultless: bool


def observe(
    run: Run, scenario: Scenario, requests: Requests, target: str, *, faultless: bool
) -> Observed:
    """Return the records of a run as arrays.

    Raises:
        InputError: a file is damaged, or does not belong to these requests.
    """
    table = _table(run, scenario, requests)
    pods = _pods(run, scenario)
    scheduler_s, deployer_s = _thinking(run, scenario, len(pods))
    scale = run.summary.get("time_scale")
    return Observed(
        name=run.id,
        target=target,
        time_scale=scale if isinstance(scale, float) else None,
        scenario=scenario,
        requests=requests,
        table=table,
        pods=pods,
        scheduler_s=scheduler_s,
        deployer_s=deployer_s,
        faultless=faultless,
    )


def _table(run: Run, scenario: Scenario, requests: Requests) -> RequestTable:
    frame, place = run.requests, f"{_place(run)}/{REQUESTS}"
    if len(frame) != len(requests):
        raise InputError(
            place, f"has {len(frame)} rows, but its experiment draws {len(requests)} requests",
            remedy="use the edgelm that made the run, or make the run again",
        )  # fmt: skip
    nodes, lms = scenario.testbed.node_names, scenario.testbed.lm_names
    table = RequestTable(
        lm=_codes(frame, "lm", lms, place),
        origin=_codes(frame, "origin", nodes, place),
        destination=_codes(frame, "destination", nodes, place, null=NOWHERE),
        failure=_codes(frame, "failure", FAILURES, place, null=0),
        prompts=_column(frame, "prompts", place).astype(np.int64),
        slot=_column(frame, "slot", place).astype(np.int64),
        attempts=_column(frame, "attempts", place).astype(np.int64),
        recomputed_prompts=_column(frame, "recomputed_prompts", place).astype(np.int64),
        **{name: _column(frame, name, place) for name in TIMES},
    )
    if not (
        np.array_equal(table.lm, requests.lm) and np.array_equal(table.origin, requests.origin)
    ):
        raise InputError(
            place, "has other requests than its experiment draws",
            remedy="use the edgelm that made the run, or make the run again",
        )  # fmt: skip
    return table


def _pods(run: Run, scenario: Scenario) -> Pods:
    frame, place = run.slots, f"{_place(run)}/{SLOTS}"
    nodes, lms = scenario.testbed.node_names, scenario.testbed.lm_names
    slot = _column(frame, "slot", place).astype(np.int64)
    at = (slot, _codes(frame, "node", nodes, place), _codes(frame, "lm", lms, place))
    shape = (int(slot.max(initial=-1)) + 1, len(nodes), len(lms))

    def spread(values: NDArray[Any], empty: float) -> NDArray[Any]:
        found = np.full(shape, empty, values.dtype)
        found[at] = values
        return found

    cards = [
        UNKNOWN if gpus is None else sum(1 << int(one.rpartition("/")[2]) for one in gpus)
        for gpus in _series(frame, "gpus", place).to_list()
    ]
    return Pods(
        state=spread(_codes(frame, "state", STATES, place), NO_ROW),
        mode=spread(_codes(frame, "mode", MODES, place), 0),
        cores=spread(_column(frame, "cores", place), 0.0),
        vgpus=spread(_column(frame, "vgpus", place).astype(np.int64), 0),
        cards=spread(np.array(cards, np.int64), UNKNOWN),
        backlog=spread(_column(frame, "backlog_prompts", place).astype(np.int64), 0),
    )


def _thinking(run: Run, scenario: Scenario, slots: int) -> tuple[Floats, Floats]:
    """Return the seconds of schedulers and deployers by slot. A late decision came into force in no
    slot, so it says nothing."""
    names = scenario.testbed.node_names
    scheduler, deployer = np.full(slots, np.nan), np.full((slots, len(names)), np.nan)
    for number, line in enumerate(run.decisions, 1):
        try:
            slot, took_s, tier = int(line["slot"]), line["took_s"], line["tier"]
            if took_s is None or line["outcome"] == LATE or slot >= slots:
                continue
            if tier == SCHEDULER:
                scheduler[slot] = took_s
            elif tier == DEPLOYER:
                deployer[slot, names.index(line["node"])] = took_s
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{_place(run)}/{DECISIONS}", f"line {number} is no decision: {error}",
                remedy="make the run again",
            ) from error  # fmt: skip
    return scheduler, deployer


def _series(frame: pl.DataFrame, name: str, place: str) -> pl.Series:
    if name not in frame.columns:
        raise InputError(
            place, "is missing, as in runs of older versions", field=name,
            remedy="make the run again",
        )  # fmt: skip
    return frame[name]


def _column(frame: pl.DataFrame, name: str, place: str) -> Floats:
    """Return a column of numbers, NaN where null."""
    import polars as pl

    series = _series(frame, name, place)
    if not series.dtype.is_numeric():
        raise InputError(
            place, "is no column of numbers", field=name, value=str(series.dtype),
            remedy="make the run again",
        )  # fmt: skip
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()


def _codes(
    frame: pl.DataFrame, name: str, names: tuple[str, ...], place: str, null: int | None = None
) -> Ints:
    """Return the positions of a column's values in ``names``."""
    known: dict[str | None, int] = {one: k for k, one in enumerate(names)}
    if null is not None:
        known[None] = null
    try:
        return np.array([known[one] for one in _series(frame, name, place).to_list()], np.int64)
    except KeyError as error:
        raise InputError(
            place, "is not of this experiment", field=name, value=error.args[0],
            remedy=f"known are {', '.join(names)}; make the run again",
        ) from error  # fmt: skip


def _place(run: Run) -> str:
    try:
        return str(run.folder)
    except ValueError:
        return run.id or "run"

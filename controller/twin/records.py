"""Conversion of the twin's request records to the table that every run reports."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.requests import UNFINISHED, RequestTable
from controller.twin.layout import Records

Ints = NDArray[np.int64]

TINY_S: Final = 1e-9  # sums of a hundred thousand times are exact to this


def request_table(records: Records, slot: Ints) -> RequestTable:
    """Return the twin's records as the reported table. ``queue_s`` is all of the latency that is
    neither transfer nor service: waits for the plan, in the queue, for the pod, and for lost
    prompts."""
    returned_s = _finite(records["returned_s"])
    arrived_s = _finite(records["arrived_s"])
    started, back = ~np.isnan(records["started_s"]), ~np.isnan(returned_s)
    uplink_s = np.where(~np.isnan(arrived_s), records["uplink_s"], np.nan)
    inference_s = np.where(started, records["inference_s"], np.nan)
    downlink_s = np.where(back, records["downlink_s"], np.nan)
    latency_s = returned_s - records["born_s"]
    queue_s = latency_s - uplink_s - inference_s - downlink_s
    queue_s[(queue_s < 0) & (queue_s > -TINY_S)] = 0.0
    failure = records["failure"].copy()
    failure[(failure == 0) & ~back] = UNFINISHED
    return RequestTable(
        lm=records["lm"],
        origin=records["origin"],
        destination=records["destination"],
        prompts=records["prompts"],
        slot=slot,
        born_s=records["born_s"],
        arrived_s=arrived_s,
        started_s=records["started_s"],
        finished_s=records["finished_s"],
        returned_s=returned_s,
        uplink_s=uplink_s,
        queue_s=queue_s,
        inference_s=inference_s,
        downlink_s=downlink_s,
        latency_s=latency_s,
        failure=failure,
        attempts=records["attempts"],
        recomputed_prompts=records["recomputed"],
    )


def _finite(times_s: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isfinite(times_s), times_s, np.nan)

"""Requests, outcomes and closed records as they travel between nodes: identity and times, never
contents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A batch of prompts. The executor keeps its payload under ``request_id``."""

    request_id: int
    lm: str
    origin: str
    prompts: int
    slot: int
    born_s: float
    payload_bytes: int
    checksum: str  # of the payload


@dataclass(frozen=True, slots=True)
class Outcome:
    """Verdict of the host of a request, with the times that the host measured."""

    request_id: int
    failure: str  # empty: every prompt has its result
    arrived_s: float
    started_s: float | None
    finished_s: float | None
    inference_s: float
    recomputed_prompts: int


@dataclass(frozen=True, slots=True)
class Record:
    """A row of requests.parquet; None where a time was never reached."""

    request: Request
    destination: str | None
    attempts: int
    failure: str | None
    arrived_s: float | None = None
    started_s: float | None = None
    finished_s: float | None = None
    returned_s: float | None = None
    uplink_s: float | None = None
    queue_s: float | None = None
    inference_s: float | None = None
    downlink_s: float | None = None
    latency_s: float | None = None
    recomputed_prompts: int = 0

    @property
    def success(self) -> bool:
        return self.failure is None


def close(
    request: Request,
    *,
    destination: str | None,
    sent_s: float | None,
    attempts: int,
    failure: str,
    outcome: Outcome | None = None,
    returned_s: float | None = None,
) -> Record:
    """Return the record of a request that is over.

    Clocks of two machines differ a little: a time before its cause is moved to its cause, so that
    the four parts are never negative and sum to the latency.
    """
    if outcome is None or sent_s is None:
        return Record(request, destination, attempts, failure or None)
    arrived_s = max(outcome.arrived_s, sent_s)
    started_s = _after(arrived_s, outcome.started_s)
    finished_s = _after(arrived_s if started_s is None else started_s, outcome.finished_s)
    uplink_s = arrived_s - sent_s
    back = Record(
        request,
        destination,
        attempts,
        failure or None,
        arrived_s=arrived_s,
        started_s=started_s,
        finished_s=finished_s,
        uplink_s=uplink_s,
        inference_s=None if started_s is None else outcome.inference_s,
        recomputed_prompts=outcome.recomputed_prompts,
    )
    if started_s is None or finished_s is None or returned_s is None:
        return back
    return _returned(back, sent_s, started_s, finished_s, max(returned_s, finished_s))


def _returned(
    back: Record, sent_s: float, started_s: float, finished_s: float, returned_s: float
) -> Record:
    arrived_s = back.arrived_s or sent_s
    born_s = back.request.born_s
    waited_s = max(0.0, sent_s - born_s) + started_s - arrived_s
    inference_s = min(back.inference_s or 0.0, finished_s - started_s)
    uplink_s = arrived_s - sent_s
    downlink_s = returned_s - finished_s
    # Queueing includes the wait for orders and for a pod that was stopped in between (Eq. 7).
    queue_s = waited_s + finished_s - started_s - inference_s
    return Record(
        back.request,
        back.destination,
        back.attempts,
        back.failure,
        arrived_s=arrived_s,
        started_s=started_s,
        finished_s=finished_s,
        returned_s=returned_s,
        uplink_s=uplink_s,
        queue_s=queue_s,
        inference_s=inference_s,
        downlink_s=downlink_s,
        latency_s=returned_s - born_s,
        recomputed_prompts=back.recomputed_prompts,
    )


def _after(cause_s: float, time_s: float | None) -> float | None:
    return None if time_s is None else max(cause_s, time_s)

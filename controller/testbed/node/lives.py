"""A closed record as a request's life, for traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.testbed.node.records import Record


@dataclass(frozen=True, slots=True)
class RecordedLife:
    """The life that a record tells of."""

    record: Record
    run_id: str

    @property
    def key(self) -> str:
        return f"{self.run_id}/{self.record.request.request_id}"

    @property
    def failure(self) -> str | None:
        return self.record.failure

    @property
    def born_s(self) -> float:
        return self.record.request.born_s

    @property
    def parts_s(self) -> Mapping[str, tuple[float, float]]:
        """Return begin and end of each part that was reached.

        The wait for orders comes before the uplink and has no part of its own here; a stop of the
        pod within the service is part of ``inference``.
        """
        one = self.record
        found = {}
        if one.arrived_s is not None and one.uplink_s is not None:
            found["uplink"] = (one.arrived_s - one.uplink_s, one.arrived_s)
            if one.started_s is not None:
                found["queue"] = (one.arrived_s, one.started_s)
        if one.started_s is not None and one.finished_s is not None:
            found["inference"] = (one.started_s, one.finished_s)
            if one.returned_s is not None:
                found["downlink"] = (one.finished_s, one.returned_s)
        return found

    @property
    def attributes(self) -> Mapping[str, str | int]:
        one = self.record
        return {
            "edgelm.run": self.run_id.partition(".")[0],  # without its incarnation
            "edgelm.request": one.request.request_id,
            "edgelm.lm": one.request.lm,
            "edgelm.origin": one.request.origin,
            "edgelm.destination": one.destination or "",
            "edgelm.prompts": one.request.prompts,
            "edgelm.outcome": one.failure or "done",
        }

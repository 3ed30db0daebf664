"""Settings of a node's state machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VERDICT_GRACE_S: Final = 30.0  # after a deadline, for the host's times and failure kind


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Name, LMs, limits and intervals of one node; times in seconds of the run's clock."""

    node: str
    lms: tuple[str, ...]
    slot_s: float = 30.0
    tau_s: float = 900.0
    verdict_grace_s: float = (
        VERDICT_GRACE_S  # wait after a deadline for the host's times and failure kind
    )
    queue_limit_bytes: int = 256 * 1024 * 1024  # payloads in this node's queues
    retry_after_s: float = 1.0  # for senders that meet a full queue
    repeat_s: float = 5.0  # until an instruction that nobody confirmed is issued again
    repeat_limit_s: float = 60.0  # doubling of that interval ends here
    engine_attempts: int = 3  # failures of the engine after which a request fails

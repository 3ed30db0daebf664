"""Events of a node: everything that its state machine learns of the world.

``time_s`` is the run's clock when the executor saw the event.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.decisions import Stamp
from controller.testbed.node.records import Outcome, Request


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``time_s``."""

    time_s: float


@dataclass(frozen=True, slots=True)
class RequestBorn(Event):
    """A request of a client of this node."""

    request: Request


@dataclass(frozen=True, slots=True)
class OrdersReceived(Event):
    """The routing plan for this origin: (LM, destination), None where the plan refuses."""

    stamp: Stamp
    destinations: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class TransferArrived(Event):
    """A whole request from an origin. ``checksum`` is that of the payload as it was received."""

    request: Request
    attempt: int
    checksum: str


@dataclass(frozen=True, slots=True)
class TransferAcknowledged(Event):
    """The destination has the request on disk."""

    request_id: int
    attempt: int


UNREACHABLE = "unreachable"  # no answer: it may have arrived
FULL = "full"
CHECKSUM = "checksum"
TOO_LATE = "deadline"
UNKNOWN_LM = "unknown_lm"


@dataclass(frozen=True, slots=True)
class TransferFailed(Event):
    """The destination did not take the request, or did not answer."""

    request_id: int
    attempt: int
    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchStarted(Event):
    """The LM's server began to compute these prompts at ``began_s``."""

    request_id: int
    attempt: int
    prompts: tuple[int, ...]
    began_s: float


@dataclass(frozen=True, slots=True)
class PromptDone(Event):
    """The LM's server recorded these prompts, whose batch began at ``began_s``.

    ``recomputed``: prompts of the request that the server has computed again so far. It may know of
    a batch that was lost before anybody told this node that it had begun.
    """

    request_id: int
    prompts: tuple[int, ...]
    began_s: float
    recomputed: int = 0


@dataclass(frozen=True, slots=True)
class EngineFailed(Event):
    """The LM's server gave up an attempt. ``permanent``: another one would fail too."""

    request_id: int
    attempt: int
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class PodStateChanged(Event):
    """The pod of an LM is off, pending, starting, ready or stopping."""

    lm: str
    state: str


@dataclass(frozen=True, slots=True)
class ResultAcknowledged(Event):
    """The origin has the result, or the verdict, on disk."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ResultArrived(Event):
    """A result, or the verdict on a failed request, from its host. ``whole``: its checksum fits."""

    outcome: Outcome
    host: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class RecordWritten(Event):
    """The row of a closed request is on disk."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """A client (at the origin) or the origin (at the host) ends a request."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed, at the latest to ``NodeMachine.wake_s``."""


@dataclass(frozen=True, slots=True)
class Restarted(Event):
    """The process began, with the events that the former ones persisted, in their order."""

    log: tuple[Event, ...] = ()

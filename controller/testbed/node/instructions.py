"""Instructions of a node's state machine to its executor.

Each is idempotent by request id and attempt, and is issued again until an event confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.testbed.node.events import Event
from controller.testbed.node.records import Outcome, Record, Request


@dataclass(frozen=True, slots=True)
class Instruction:
    """Something for the executor to do."""


@dataclass(frozen=True, slots=True)
class Persist(Instruction):
    """Append the event to the durable log and sync it before any later instruction of the list."""

    event: Event


@dataclass(frozen=True, slots=True)
class AcceptRequest(Instruction):
    """Answer the client: the request is on disk."""

    request_id: int


@dataclass(frozen=True, slots=True)
class RefuseRequest(Instruction):
    """Answer the client: the request is not taken, and nothing is kept of it."""

    request_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class SendTransfer(Instruction):
    """Send the request with its payload to a node."""

    destination: str
    request: Request
    attempt: int


@dataclass(frozen=True, slots=True)
class AcknowledgeTransfer(Instruction):
    """Answer the origin: the request is on disk here."""

    origin: str
    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RefuseTransfer(Instruction):
    """Answer the origin: not taken. ``full`` is HTTP's 429 with Retry-After."""

    origin: str
    request_id: int
    attempt: int
    reason: str
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class ReportArrival(Instruction):
    """Report to the controller that the request is in a queue here (T2.5)."""

    request_id: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Compute(Instruction):
    """Ask the LM's server for the request; repeated while it runs, which asks for its progress.

    ``remaining``: prompts that are not recorded. ``attempt`` grows when an attempt was cut off.
    """

    lm: str
    request_id: int
    attempt: int
    remaining: tuple[int, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class CancelCompute(Instruction):
    """Free the engine of the request."""

    lm: str
    request_id: int


@dataclass(frozen=True, slots=True)
class SendCancel(Instruction):
    """Ask the host to end the request; its verdict confirms it."""

    destination: str
    request_id: int


@dataclass(frozen=True, slots=True)
class ReturnResult(Instruction):
    """Send the result, or the verdict, to the origin."""

    origin: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AcknowledgeResult(Instruction):
    """Answer the host: the outcome is on disk here."""

    host: str
    request_id: int


@dataclass(frozen=True, slots=True)
class CloseRecord(Instruction):
    """Write the request's row of the results, confirmed by RecordWritten. After a restart an
    unconfirmed one comes again, with equal contents."""

    record: Record


@dataclass(frozen=True, slots=True)
class ForgetRequest(Instruction):
    """Drop payload and result of the request as far as this node needs them."""

    request_id: int

"""Events and snapshots as text of the durable log, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from controller.domain.decisions import Stamp
from controller.testbed.node import events
from controller.testbed.node.records import Outcome, Request
from controller.testbed.node.snapshot import Snapshot

_KINDS: Final[dict[str, type[events.Event]]] = {
    one.__name__: one for one in events.Event.__subclasses__()
}
_SNAPSHOT: Final = TypeAdapter(Snapshot)
_PARTS: Final[dict[str, type]] = {"request": Request, "outcome": Outcome, "stamp": Stamp}


def to_line(event: events.Event) -> str:
    """Return an event as one line of JSON, without its end."""
    fields = {"event": type(event).__name__, **asdict(event)}
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def from_line(line: str) -> events.Event:
    """Return the event of a line.

    Raises:
        ValueError: the line is damaged, or of another version of edgelm.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
        kind = _KINDS[fields.pop("event")]
        return kind(**{name: _read(name, value) for name, value in fields.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"damaged line in the node's log: {line[:80]!r}") from error


def snapshot_to_text(snapshot: Snapshot) -> str:
    """Return a snapshot as JSON."""
    return _SNAPSHOT.dump_json(snapshot).decode()


def snapshot_from_text(text: str) -> Snapshot:
    """Return the snapshot of a text.

    Raises:
        ValueError: it is damaged, or of another version of edgelm.
    """
    try:
        return _SNAPSHOT.validate_json(text)
    except ValidationError as error:
        problem = f"damaged snapshot in the node's log: {error.error_count()} fields"
        raise ValueError(problem) from None


def _read(name: str, value: Any) -> Any:
    if name in _PARTS:
        return _PARTS[name](**value)
    if name == "destinations":
        return tuple((str(lm), destination) for lm, destination in value)
    return tuple(value) if isinstance(value, list) else value

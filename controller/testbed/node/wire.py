"""Requests, outcomes and records as they travel between services: plain JSON, read strictly."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from controller.domain.errors import InputError
from controller.testbed.node.records import Outcome, Record, Request

Json = dict[str, Any]
T = TypeVar("T")

_REQUEST: Final = TypeAdapter(Request)
_OUTCOME: Final = TypeAdapter(Outcome)
_RECORD: Final = TypeAdapter(Record)


def to_wire(one: Request | Outcome | Record) -> Json:
    """Return plain JSON values."""
    return asdict(one)


def request_from_wire(text: str | bytes) -> Request:
    """Return the request that was sent.

    Raises:
        InputError: it has another shape.
    """
    return _read(_REQUEST, text, "request")


def outcome_from_wire(text: str | bytes) -> Outcome:
    """Return the outcome that was sent.

    Raises:
        InputError: it has another shape.
    """
    return _read(_OUTCOME, text, "outcome")


def record_from_wire(text: str | bytes) -> Record:
    """Return the record that was sent.

    Raises:
        InputError: it has another shape.
    """
    return _read(_RECORD, text, "record")


def record_from_document(document: Json) -> Record:
    """Return the record of an object that was read from JSON already.

    Raises:
        InputError: it has another shape.
    """
    return record_from_wire(json.dumps(document))  # JSON's strictness is not that of objects


def _read(adapter: TypeAdapter[T], text: str | bytes, kind: str) -> T:
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        # Without the values: what is malformed may be a content.
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(kind, first["msg"], field=field) from None

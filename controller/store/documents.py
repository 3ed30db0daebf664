"""Rules of every store: the documents, names and fields that SQLite and MongoDB can both store with
the same meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from controller.domain.errors import InputError

Scalar = str | int | float | bool | None

_COLLECTION: Final = re.compile(r"(?!sqlite_)[a-z][a-z0-9_]{0,62}")
_FIELD: Final = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
_INT64: Final = 2**63


def check_collection(name: str) -> str:
    """Return the name if it is valid for a collection.

    Raises:
        InputError: not lower-case letters, digits and _ as in ``node_slots``, over 63 characters,
            or beginning with sqlite_.
    """
    if _COLLECTION.fullmatch(name) is None:
        raise InputError(
            "store",
            "not a collection's name",
            value=name,
            remedy="use up to 63 lower-case letters, digits and _, beginning with a letter, but "
            "not with sqlite_",
        )
    return name


def check_key(collection: str, key: str) -> str:
    """Return the key if it is valid for a document.

    Raises:
        InputError: not a string, empty, or with a NUL or a lone surrogate.
    """
    if not isinstance(key, str) or not key or not _is_text(key):
        raise InputError(
            "store", "not a document's key", field=collection, value=key, remedy="use a string"
        )
    return key


def check_field(field: str) -> str:
    """Return the field if it is valid.

    Raises:
        InputError: not a dotted path of words.
    """
    if _FIELD.fullmatch(field) is None:
        raise InputError(
            "store",
            "not a field",
            value=field,
            remedy="use a dotted path of words, such as pod.state",
        )
    return field


def check_scalar(field: str, value: Any) -> Scalar:
    """Return the value if fields can be compared with it.

    Raises:
        InputError: a list, an object, NaN, infinity, an integer beyond 64 bits, or a string with a
            NUL or a lone surrogate.
    """
    if not isinstance(value, Scalar) or not _is_storable(value):
        raise InputError(
            "store",
            "cannot be compared with",
            field=field,
            value=value,
            remedy="use a finite number, a string, a boolean or None",
        )
    return value


def encode(collection: str, key: str, document: Mapping[str, Any]) -> str:
    """Return the document as JSON.

    Raises:
        InputError: a value is none that :func:`check_scalar` takes, or the name of a field is
            empty, ``_id``, begins with ``$``, or has a dot, a NUL or a lone surrogate.
    """
    _check_object(f"{collection}/{key}", document)
    return json.dumps(dict(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _check_object(path: str, value: Mapping[str, Any]) -> None:
    for name, item in value.items():
        if not isinstance(name, str) or not _is_name(name):
            raise InputError(
                "store",
                "not the name of a field",
                field=path,
                value=name,
                remedy="use a string without '.' that neither begins with '$' nor is '_id'",
            )
        _check_value(f"{path}.{name}", item)


def _check_value(path: str, value: Any) -> None:
    if isinstance(value, dict):
        _check_object(path, value)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_value(f"{path}[{position}]", item)
    elif not isinstance(value, Scalar) or not _is_storable(value):
        raise InputError(
            "store",
            "not storable as JSON",
            field=path,
            value=value,
            remedy="use null for NaN and infinity, plain numbers of up to 64 bits, and strings "
            "without NUL",
        )


def _is_name(name: str) -> bool:
    return (
        bool(name)
        and name != "_id"
        and not name.startswith("$")
        and "." not in name
        and _is_text(name)
    )


def _is_storable(value: Scalar) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or -_INT64 <= value < _INT64


def _is_text(value: str) -> bool:
    """Return True if the text has no NUL, at which SQLite's functions stop, and no lone
    surrogate."""
    if "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

"""SQL over JSON documents: the arguments of a find as clauses for SQLite.

Values are always bound. Fields are part of the statement, since an expression index serves only
the exact expression it was created with, so they are checked first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controller.domain.errors import InputError
from controller.store.documents import Scalar, check_field, check_scalar


def extract(field: str) -> str:
    """Return the SQL expression of a field's value.

    Raises:
        InputError: not a field.
    """
    return f"json_extract(body, '{_path(field)}')"


def conditions(
    where: Mapping[str, Scalar], within: Mapping[str, tuple[float, float]]
) -> tuple[str, list[Scalar]]:
    """Return a WHERE clause and the values to bind.

    Raises:
        InputError: a field, value or interval that cannot be compared.
    """
    parts, values = ["TRUE"], list[Scalar]()
    for field, value in where.items():
        parts += [f"{extract(field)} IS ?", *_kind(field, value)]
        values.append(check_scalar(field, value))
    for field, (low, high) in within.items():
        check_interval(field, low, high)
        parts += [f"{extract(field)} >= ?", f"{extract(field)} < ?", *_kind(field, low)]
        values += [float(low), float(high)]
    return " AND ".join(parts), values


def ordering(sort: Sequence[tuple[str, int]]) -> str:
    """Return an ORDER BY clause; ties are ordered by key.

    Raises:
        InputError: not a field, or a direction other than 1 and -1.
    """
    terms = []
    for field, direction in sort:
        check_direction(field, direction)
        terms.append(extract(field) + (" ASC" if direction > 0 else " DESC"))
    return " ORDER BY " + ", ".join([*terms, "key"])


def limiting(limit: int | None) -> str:
    """Return a LIMIT clause.

    Raises:
        InputError: a negative limit.
    """
    return "" if check_limit(limit) is None else f" LIMIT {limit}"


def check_interval(field: str, low: float, high: float) -> tuple[float, float]:
    """Return the half-open interval if it is one.

    Raises:
        InputError: ``high`` under ``low``, or NaN.
    """
    if not low <= high:
        raise InputError("store", "not an interval", field=field, value=(low, high))
    return float(low), float(high)


def check_direction(field: str, direction: int) -> int:
    """Return the direction if it is 1 or -1.

    Raises:
        InputError: it is not.
    """
    if direction not in (1, -1):
        raise InputError(
            "store", "not a direction", field=field, value=direction, remedy="use 1 or -1"
        )
    return direction


def check_limit(limit: int | None) -> int | None:
    """Return the limit if it is one.

    Raises:
        InputError: it is negative.
    """
    if limit is not None and limit < 0:
        raise InputError("store", "not a limit", value=limit, remedy="use 0 or more, or None")
    return None if limit is None else int(limit)


def _path(field: str) -> str:
    words = check_field(field).split(".")
    return "$" + "".join(f'."{word}"' for word in words)


def _kind(field: str, value: Scalar) -> list[str]:
    """Return the condition that the field has the value's type, since SQLite takes JSON's true for
    1 and a list for its text."""
    if value is None:
        return []
    if isinstance(value, bool):
        kinds = "('true', 'false')"
    elif isinstance(value, str):
        kinds = "('text')"
    else:
        kinds = "('integer', 'real')"
    return [f"json_type(body, '{_path(field)}') IN {kinds}"]

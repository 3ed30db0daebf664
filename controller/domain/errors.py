"""The errors edgelm raises on purpose.

EdgelmError
├── InputError        a file, flag or field is wrong: nothing was changed (exit code 2)
├── Transient         the world did not answer: keep the last plan, try again next slot
├── Permanent         the run cannot go on: stop and name the remedy (exit code 1)
└── InvalidDecision   a decision breaks a constraint: bounded repair, then fallback
"""

from __future__ import annotations

from controller.domain.words import printable


class EdgelmError(Exception):
    """Root of every error edgelm raises on purpose. Its text never commands a terminal."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(EdgelmError):
    """Bad input. Its message names source, field, value and remedy."""

    def __init__(
        self, source: str, problem: str, *, field: str = "", value: object = None, remedy: str = ""
    ) -> None:
        self.source, self.field, self.value, self.remedy = source, field, value, remedy
        where = f"{source}: {field}" if field else source
        given = f" (got {value!r})" if value is not None else ""
        hint = f"; {remedy}" if remedy else ""
        super().__init__(f"{where}: {problem}{given}{hint}")


class Transient(EdgelmError):
    """A passing fault of the world; the loop keeps its last plan."""


class Permanent(EdgelmError):
    """A fault that waiting does not cure."""


class InvalidDecision(EdgelmError):
    """A decision that breaks a constraint of the cluster."""

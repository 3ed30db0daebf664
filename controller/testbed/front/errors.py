"""Errors of the front door, as OpenAI's clients read them (docs/front-door.md)."""

from __future__ import annotations

import math
from typing import Any, Final

from fastapi.responses import JSONResponse, Response

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"
RATE: Final = "rate_limit_error"


class Refused(Exception):
    """A call that is not answered with what it asks for.

    Args:
        code: what programs tell it by.
        param: the field that is wrong.
        retry_after_s: real seconds after which it is worth another try; None: a call like it would
            end like it, and official clients are asked not to repeat it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code)  # the message may say more, and goes to the caller alone
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after_s = param, retry_after_s

    @property
    def kind(self) -> str:
        if self.status == 429:
            return RATE
        return SERVER if self.status >= 500 else INVALID

    def response(self) -> Response:
        """Return the answer to the caller."""
        error = {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code
        }  # fmt: skip
        return JSONResponse({"error": error}, self.status, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        if self.retry_after_s is not None:  # whole seconds are what HTTP has, and 0 is no pause
            return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
        # Without it, official clients repeat whatever is 408, 409, 429 or 5xx.
        headers = {"x-should-retry": "false"}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def invalid(code: str, message: str, param: str | None = None) -> Refused:
    """Return the refusal of a call that is wrong in itself."""
    return Refused(400, code, message, param=param)


# Failures of a record: status, code, message; True if another try may do better.
FAILURES: Final[dict[str, tuple[int, str, str, bool]]] = {
    "refused": (503, "refused_by_plan", "the plan in force takes no requests of {lm} here", True),
    "deadline": (504, "deadline_exceeded", "{lm} had no result before the deadline", False),
    "not_deployed": (504, "not_deployed", "no server of {lm} was ready before the deadline", False),
    "lost_node": (503, "node_lost", "the node that had the request is not reached any more", True),
    "engine_error": (
        500, "engine_error", "the engine of {lm} failed on it (it may not read its image)", False,
    ),
    "cancelled": (503, "cancelled", "the request was cancelled", False),
    "unfinished": (503, "run_ended", "the run has ended", True),
}  # fmt: skip


def failed(failure: str, lm: str, retry_after_s: float) -> Refused:
    """Return the refusal that a record's failure becomes."""
    status, code, message, again = FAILURES[failure]
    text = message.format(lm=lm)
    return Refused(status, code, text, retry_after_s=retry_after_s if again else None)


def no_run(retry_after_s: float) -> Refused:
    return Refused(
        503, "no_run", "no run is on at this node: nothing serves requests now",
        retry_after_s=retry_after_s,
    )  # fmt: skip


def problem_of(errors: list[Any]) -> Refused:
    """Return the refusal of a body by the first of pydantic's errors, without the value: it is the
    user's."""
    first = errors[0]
    place = [str(one) for one in first["loc"] if _is_place(one)]
    param = ".".join(place)
    return invalid("invalid_value", f"{param}: {first['msg']}", param)


def _is_place(one: int | str) -> bool:
    """Return True for a field or an index, False for what pydantic calls a member of a union."""
    return isinstance(one, int) or (one.isidentifier() and one not in ("str", "none"))

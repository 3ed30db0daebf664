"""A testbed as a connection names it, and who has it: for a page that must not wait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from controller.domain.errors import InputError
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER, NO_KEYS, read_keys

CONNECTION: Final = "edgelm_default"
TIMEOUT_S: Final = 2.0

_MOST_BYTES: Final = 2**16  # of an answer


class ConnectionFields(Protocol):
    """Fields of an Airflow connection that say where a controller is. In extra: ``keys_file``, a
    path on every machine of Airflow, and ``time_scale``."""

    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def schema(self) -> str | None: ...
    @property
    def extra_dejson(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Address:
    """A controller's URL, without a slash at its end, and the file of the operator's keys. The keys
    stay in that file: this travels through Airflow's database.

    ``time_scale``: seconds of a run per real second, where engines are emulated.
    """

    url: str
    keys_file: str = ""
    time_scale: float = 1.0

    def document(self) -> dict[str, Any]:
        """Return it as a trigger's argument."""
        return asdict(self)

    def headers(self) -> dict[str, str]:
        """Return the headers that let the operator in.

        Raises:
            InputError: the file of keys cannot be read.
        """
        keys = read_keys(Path(self.keys_file)) if self.keys_file else NO_KEYS
        return headers(keys, CONTROLLER)

    def options(self) -> list[str]:
        """Return it as options of edgelm's commands."""
        keys = ["--keys", self.keys_file] if self.keys_file else []
        return ["--controller", self.url, *keys]


@dataclass(frozen=True, slots=True)
class Holding:
    """Holder of a testbed: ``holder`` until ``until``, nobody if that is empty. ``problem``: why
    nothing is known."""

    url: str = ""
    holder: str = ""
    until: datetime | None = None
    fence: int = 0
    problem: str = ""


def address_of(connection: ConnectionFields) -> Address:
    """Return the testbed of a connection. Its host is a name, or a whole URL.

    Raises:
        ValueError: it has no host, or no URL comes of it.
    """
    host = (connection.host or "").strip()
    given = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(given)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ValueError("its host is no name and no http URL: write it like http://vm1:8700")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or connection.port
    place = f"{name}:{port}" if port else name
    more = connection.extra_dejson
    return Address(
        f"{parts.scheme}://{place}{parts.path.rstrip('/')}",
        str(more.get("keys_file") or ""),
        float(more.get("time_scale") or 1.0),
    )


def look(address: Address, timeout_s: float = TIMEOUT_S) -> Holding:
    """Ask a controller who has its testbed. Its token goes nowhere else: redirects are refused."""
    try:
        shown = address.headers()
    except InputError as error:
        return Holding(address.url, problem=str(error))
    wanted = Request(f"{address.url}/v1/lease", headers=shown)  # noqa: S310 - http, as checked
    try:
        with build_opener(_NoRedirect).open(wanted, timeout=timeout_s) as answer:
            return _holding(address.url, json.loads(answer.read(_MOST_BYTES)))
    except HTTPError as error:
        with error:
            return Holding(address.url, problem=_refused(error.code))
    except TimeoutError:
        return Holding(address.url, problem=_silent(timeout_s))
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        silent = isinstance(reason, TimeoutError)
        problem = _silent(timeout_s) if silent else f"it cannot be reached: {reason}"
        return Holding(address.url, problem=problem)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Holding(address.url, problem="its answer is no lease: is this a controller?")


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _holding(url: str, lease: Mapping[str, Any] | None) -> Holding:
    if lease is None:
        return Holding(url)
    until = datetime.fromtimestamp(float(lease["until_unix_s"]), UTC)
    return Holding(url, str(lease["holder"]), until, int(lease["fence"]))


def _silent(timeout_s: float) -> str:
    return f"it does not answer within {timeout_s:g} s"


def _refused(status: int) -> str:
    if status in (401, 403):
        return f"it refuses the token ({status}): keys_file of the connection is another testbed's"
    return f"it answers {status}"

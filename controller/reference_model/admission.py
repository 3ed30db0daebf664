"""Admission of requests: whose they are, how large they may be, how long they may take to come."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

LARGEST_BODY: Final = 16_000_000  # bytes; the largest prompt, at 600 nodes, has some 300 kB
DEEPEST: Final = 100  # brackets within each other; agents' requests have a dozen
IDLE_S: Final = 30.0  # without a byte, in the middle of a request
KEEP_ALIVE_S: Final = 75  # between requests; clients drop idle connections sooner


def foreign(headers: Iterable[tuple[bytes, bytes]], names: frozenset[str]) -> str:
    """Return why a request is refused as another site's, empty if it is not.

    A web page can send requests here under a name that its owner has pointed at this machine; the
    Host header then has that name. An address as Host cannot be had that way. Requests that a page
    sends straight to the address have an Origin.
    """
    told = {name: value.decode("latin-1") for name, value in headers}
    host = told.get(b"host", "")
    if not _is_ours(host, names):
        return f"the Host {host!r} is not this server's: use its address, or localhost"
    origin = told.get(b"origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return f"web pages of {origin!r} may not use this server"
    return ""


def names_of(host: str) -> frozenset[str]:
    """Return the names that a server listening on ``host`` answers to."""
    return frozenset(name.lower() for name in (host, "localhost", socket.gethostname()))


def _is_ours(host: str, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names or name.endswith(".localhost")
    return True


def nests_too_deeply(value: object) -> bool:
    """Return True if lists and objects stand within each other more than DEEPEST times."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def make_protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a limit on the time between the bytes of a request."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """Closes a connection that stays silent in the middle of a request."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._heard_s = self.loop.time()
            self._watch = self.loop.call_later(IDLE_S, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._heard_s = self.loop.time()
            super().data_received(data)

        def _look(self) -> None:
            left_s = self._heard_s + self._patience_s() - self.loop.time()
            if left_s <= 0:
                self.transport.close()
            else:
                self._watch = self.loop.call_later(left_s, self._look)

        def _patience_s(self) -> float:
            cycle: Any = self.cycle
            if cycle is None or cycle.more_body:
                return IDLE_S
            return KEEP_ALIVE_S + IDLE_S  # uvicorn itself ends what is idle between requests

    return Protocol

"""Serving an ASGI application until TERM or Ctrl-C, beside work of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from controller.domain.errors import InputError

KEEP_ALIVE_S: Final = 60  # longer than clients keep a connection, so that none is cut off in use
CLOSE_S: Final = 3.0  # for connections that are open at the end


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        InputError: the port is taken, or the address not this machine's.
    """
    try:
        # A socket that says it is TCP's: else asyncio leaves Nagle's algorithm on.
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise InputError(
            "--port", f"cannot listen on {host} ({error.strerror})", value=port,
            remedy="give another port, or end what has it",
        ) from error  # fmt: skip
    return listener


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a service's certificate and of its key, both PEM."""

    cert: Path
    key: Path


def read_tls(cert: Path | None, key: Path | None) -> Tls | None:
    """Return both files after loading them as a check, None if neither is given.

    Raises:
        InputError: one is missing, or they do not belong together.
    """
    if cert is None or key is None:
        if cert is not key:
            raise InputError(
                "command line", "is not given", field="--tls-key" if cert else "--tls-cert",
                remedy="give both, or neither",
            )  # fmt: skip
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        raise InputError(
            "command line", f"cannot be used: {error}", field="--tls-cert, --tls-key",
            value=f"{cert}, {key}", remedy="give PEM files that belong together",
        ) from error  # fmt: skip
    return Tls(cert, key)


def address_of(listener: socket.socket, tls: Tls | None) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{host}:{port}"


App = Callable[..., Awaitable[Any]]


async def serve(
    app: App,
    listener: socket.socket,
    work: Callable[[], Awaitable[object]],
    tls: Tls | None = None,
    beside: Sequence[tuple[App, socket.socket]] = (),
) -> None:
    """Serve and work until told to end, or until the work ends; then end both.

    Args:
        beside: further applications, each on a socket of its own.

    Raises:
        Exception: whatever ended the work.
    """
    pairs = [(app, listener), *beside]
    servers, told = [_Server(_config(one, tls)) for one, _ in pairs], asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    fronts = [
        asyncio.create_task(server.serve(sockets=[place]))
        for server, (_, place) in zip(servers, pairs, strict=True)
    ]
    working = asyncio.ensure_future(work())
    asked = asyncio.create_task(told.wait())
    await asyncio.wait({*fronts, working, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not working.done():
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    for server in servers:
        server.should_exit = True
    await asyncio.wait(fronts, timeout=2 * CLOSE_S)
    if not working.cancelled():
        working.result()


def _config(app: App, tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app, access_log=False, log_level="warning", lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=int(CLOSE_S),
        ssl_certfile=tls.cert if tls else None, ssl_keyfile=tls.key if tls else None,
    )  # fmt: skip

"""Serve one LM over HTTP.

Example: python -m lm_server --engine emulated --model times.json --data data --port 8001
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from lm_server.checkpoint import Checkpoint, DamagedCheckpoint
from lm_server.engines import ENGINES
from lm_server.front import Front, make_app
from lm_server.serving import Serving
from lm_server.worker import Worker

FORGET_EVERY_S = 600.0


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours: readiness ends before connections do."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    """Parse the options and serve until TERM or Ctrl-C; exit 2 on wrong options."""
    parser = argparse.ArgumentParser("lm_server", description=__doc__)
    parser.add_argument("--engine", choices=sorted(ENGINES), required=True)
    parser.add_argument("--model", type=Path, required=True, help="weights, or emulated times")
    parser.add_argument("--data", type=Path, required=True, help="folder of checkpoint and results")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001, help="0 takes a free one")
    parser.add_argument("--grace-s", type=float, default=20.0, help="for the batch in hand")
    parser.add_argument("--silent-s", type=float, default=5.0, help="a worker's longest silence")
    parser.add_argument("--floor-gb", type=float, default=1.0, help="free space for new requests")
    parser.add_argument("--keep-h", type=float, default=24.0, help="how long results stay")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if not options.model.exists():
        parser.error(f"--model: {options.model} is not there: give the folder or file of the LM")
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        parser.error(f"--port: cannot listen on {options.port} ({error.strerror}): give another")
    try:
        asyncio.run(_serve(options, listener))
    except DamagedCheckpoint as error:
        sys.exit(f"lm_server: {error}")


async def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    checkpoint = Checkpoint(options.data, int(options.floor_gb * 1e9))
    serving = Serving(checkpoint, lambda: Worker(options.engine, options.model))
    app = make_app(Front(checkpoint, serving, silent_s=options.silent_s))
    server = Server(uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off"))
    told = asyncio.Event()

    def end() -> None:
        if told.is_set():  # a second signal: somebody is in a hurry
            os._exit(1)
        told.set()

    # Before the engine loads: a pod may be stopped while it starts.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    sys.stdout.write(f"http://{options.host}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    front = asyncio.create_task(server.serve(sockets=[listener]))
    work = asyncio.create_task(serving.run())
    cleaning = asyncio.create_task(_forget_old(checkpoint, options.keep_h * 3600))
    asked = asyncio.create_task(told.wait())
    await asyncio.wait({front, work, asked}, return_when=asyncio.FIRST_COMPLETED)

    # The order of a shutdown: no new work, the batch in hand, then the connections.
    serving.drain()
    _, busy = await asyncio.wait({work}, timeout=options.grace_s)
    if busy:
        serving.drain(at_once=True)
        _, busy = await asyncio.wait({work}, timeout=1.0)
        work.cancel()
    server.should_exit = True
    await asyncio.wait({front}, timeout=2.0)
    asked.cancel()
    cleaning.cancel()
    serving.close()
    checkpoint.close()
    if not work.cancelled() and work.done() and (error := work.exception()):
        raise error


async def _forget_old(checkpoint: Checkpoint, keep_s: float) -> None:
    while True:
        checkpoint.forget(time.time() - keep_s)
        await asyncio.sleep(min(keep_s, FORGET_EVERY_S))


def _listen(host: str, port: int) -> socket.socket:
    # A socket that says it is TCP's: else asyncio leaves Nagle's algorithm on, and replies wait.
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(2048)
    return listener


if __name__ == "__main__":
    main()

"""The running server: front, queue and worker, and the order in which they end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

import uvicorn

from lm_server.checkpoint import Checkpoint
from lm_server.front import Front, make_app
from lm_server.serving import Serving
from lm_server.worker import Worker

FORGET_EVERY_S = 600.0
END_S = 0.2  # that connections and interpreter take to end


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours: readiness ends before connections do."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    options: argparse.Namespace, checkpoint: Checkpoint, listener: socket.socket, token: str
) -> None:
    """Serve until a signal.

    Raises:
        EngineUnusable: the engine does not load.
    """
    serving = Serving(checkpoint, lambda: Worker(options.engine, options.model))
    app = make_app(Front(checkpoint, serving, silent_s=options.silent_s), token)
    server = Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            timeout_keep_alive=60,  # longer than clients keep a connection
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
        )
    )
    asked = asyncio.Event()

    def end() -> None:
        if asked.is_set():  # a second signal: somebody is in a hurry
            serving.close()
            os._exit(1)
        asked.set()

    # Before the engine loads: a pod may be stopped while it starts.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    scheme = "https" if options.tls_cert else "http"
    sys.stdout.write(f"{scheme}://{options.host}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    front = asyncio.create_task(server.serve(sockets=[listener]))
    work = asyncio.create_task(serving.run())
    cleaning = asyncio.create_task(_forget_old(checkpoint, options.keep_h * 3600))
    asking = asyncio.create_task(asked.wait())
    await asyncio.wait({front, work, asking}, return_when=asyncio.FIRST_COMPLETED)

    # The order of a shutdown: no new work, the batch in hand, then the connections.
    serving.drain()
    stop_s = min(serving.engine.stop_s if serving.engine else 0.0, options.grace_s)
    stopping = asyncio.create_task(asyncio.sleep(stop_s - END_S))
    _, busy = await asyncio.wait({work}, timeout=options.grace_s)
    if busy:
        serving.drain(at_once=True)
        _, busy = await asyncio.wait({work}, timeout=1.0)
        work.cancel()
    await stopping
    serving.release()
    server.should_exit = True
    await asyncio.wait({front}, timeout=2.0)
    asking.cancel()
    cleaning.cancel()
    serving.close()
    checkpoint.close()
    if not work.cancelled() and work.done() and (error := work.exception()):
        raise error


async def _forget_old(checkpoint: Checkpoint, keep_s: float) -> None:
    while True:
        if checkpoint.forget(time.time() - keep_s):
            with contextlib.suppress(OSError):  # a full disk: next time
                await asyncio.to_thread(checkpoint.compact)
        await asyncio.sleep(min(max(keep_s, 1.0), FORGET_EVERY_S))

"""A TCP proxy that can stop forwarding while its connections stay open, as a lost network does."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Forwards a port of this machine to another."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.frozen = False
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for one in self._tasks:
            one.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frozen = self.frozen  # of old connections; new ones get through again
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink, lambda: self.frozen and not frozen))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, stuck) -> None:  # type: ignore[no-untyped-def]
        try:
            while chunk := await source.read(65536):
                if stuck():
                    continue  # into nothing; nobody hears of it
                sink.write(chunk)
                await sink.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(RuntimeError):
                sink.close()

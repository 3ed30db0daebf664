"""An event loop of its own, for tests that speak with a cluster from outside of one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from controller.testbed.kubernetes.access import ClusterApi, open_api
from tests.kubernetes.cluster import ControlPlane

T = TypeVar("T")
ANSWER_S = 60.0


@contextlib.asynccontextmanager
async def opened(plane: ControlPlane) -> AsyncIterator[ClusterApi]:
    """The administrator's access."""
    api = await open_api(plane.kubeconfig)
    try:
        yield api
    finally:
        mine = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in mine:
            one.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        await api.close()


class ClusterLoop:
    """A loop in a thread, and the administrator's access to a cluster in it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.api: ClusterApi = self.run(open_api(plane.kubeconfig))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(ANSWER_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        async def calling() -> None:
            function(*arguments)

        self.run(calling())

    def close(self) -> None:
        self.run(self.api.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

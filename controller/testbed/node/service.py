"""A node's service: works for the run that the controller names, from its orders on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp

from controller import __version__
from controller.domain.errors import EdgelmError
from controller.telemetry import names
from controller.telemetry.exposition import Exposition
from controller.telemetry.gpu_accounting import Account, GpuAccounting, measure
from controller.telemetry.names import Emitter
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER
from controller.testbed.node.live_run import LiveRun, Options, Work
from controller.testbed.weights.folder import faults_in, folders_in

WAIT_S: Final = 20.0  # of a long poll
POLL_TIMEOUT: Final = aiohttp.ClientTimeout(total=WAIT_S + 10.0, sock_connect=2.0)
RETRY_S: Final = 0.5
ACCOUNT_S: Final = 5.0  # for which an account of GPUs holds
OFFSETS: Final = 16  # newest measurements of the controller's clock that count
FLOOR_BYTES: Final = 256 * 1024 * 1024  # free space for what has been taken already

log = logging.getLogger("edgelm.node")


class NodeService:
    """One node.

    Args:
        prepare: reads an experiment.json.
        gpus: accounts of the machine's GPUs; None without any.
        weights: folder of the LMs' weights; None where engines are emulated.

    Raises:
        InputError: there are no weights in that folder.
    """

    def __init__(
        self,
        options: Options,
        prepare: Callable[[str], Work],
        gpus: GpuAccounting | None = None,
        weights: Path | None = None,
    ) -> None:
        if weights is not None:
            folders_in(weights)
        self._weights = weights
        self._weights_faults: list[str] | None = None  # None: not looked at
        self._options, self._prepare, self._gpus = options, prepare, gpus
        self._asking_gpus, self._accounted_s = asyncio.Lock(), -ACCOUNT_S
        self.current: LiveRun | None = None
        self._working: asyncio.Task[None] | None = None
        self._urls: dict[str, str] = {}
        self._offsets_s: deque[float] = deque(maxlen=OFFSETS)
        self._fault = ""
        self._measured = Exposition(Emitter.NODE)
        self._measured.set(names.NODE_ORDERS_SLOT, -1)
        self._done = ""  # the run that this node has finished last
        # A run that cannot go on, on a full disk say: what was acknowledged is on disk, and the
        # next process goes on from there.
        self._broken: asyncio.Future[None]

    async def run(self) -> None:
        """Follow the controller until cancelled.

        Raises:
            Permanent: the node cannot keep its promises any more.
        """
        self._broken = asyncio.get_running_loop().create_future()
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
        async with aiohttp.ClientSession(connector=connector) as session:
            following = asyncio.create_task(self._follow_on(session))
            # A thread that nobody waits for: hashing gigabytes must not hold up the end.
            threading.Thread(target=self._check_weights, daemon=True).start()
            try:
                await asyncio.wait({following, self._broken}, return_when=asyncio.FIRST_COMPLETED)
                (self._broken if self._broken.done() else following).result()
            finally:
                following.cancel()
                await self._end_work()

    def _check_weights(self) -> None:
        """Compare the weights with their checksums."""
        if self._weights is not None:
            self._weights_faults = faults_in(self._weights)

    @property
    def has_room(self) -> bool:
        """True if the disk has more free space than the floor; below it nothing new is taken."""
        return self._free_bytes() > FLOOR_BYTES

    def _free_bytes(self) -> int:
        folder = self._options.data
        return shutil.disk_usage(folder if folder.exists() else Path()).free

    def describe(self) -> dict[str, Any]:
        """Return what the node does now, for people and `edgelm status`."""
        run = self.current
        return {
            "node": self._options.name,
            "version": __version__,
            "unix_s": time.time(),
            "free_gb": round(self._free_bytes() / 1e9, 1),
            "clock_offset_s": self._offset_s(),
            "weights_faults": self._weights_faults,
            "fault": self._fault,
            "run": run and run.describe(),
        }

    def _offset_s(self) -> float | None:
        """Return how far the controller's clock is ahead of this machine's, None if it is unknown.

        An answer's way makes an offset smaller; so the largest of the newest is the best.
        """
        return max(self._offsets_s, default=None)

    async def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        if self.current:
            self.current.measure()
        if self._gpus is not None:
            async with self._asking_gpus:  # all readers of some seconds share one account
                if time.monotonic() - self._accounted_s > ACCOUNT_S:
                    await self._account(self._gpus)
                    self._accounted_s = time.monotonic()
        return self._measured.render()

    async def _account(self, gpus: GpuAccounting) -> None:
        """Set each pod's use of each GPU."""
        try:
            found = await asyncio.to_thread(gpus.read)
        except EdgelmError as error:  # no figures in place of old ones
            log.warning("no accounts of GPUs: %s", error)
            found = Account((), {})
        measure(found, self._measured)

    async def _follow_on(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._follow(session)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """Ask for news once, and act by them."""
        try:
            news = await self._ask(session)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._tell(f"the controller does not answer ({type(error).__name__})")
            await asyncio.sleep(RETRY_S)
            return
        self._urls.update(news["nodes"])
        wanted = news["run"]
        if wanted is None:
            self._done = ""  # else the next question would be answered at once, and so on
        if self.current is not None and (wanted is None or wanted["id"] != self.current.run_id):
            await self._end_work()
        if wanted is not None and self.current is None:
            if self._done_mark(wanted["id"]).exists():
                self._done = wanted["id"]
            else:
                await self._begin_work(session, wanted)
        if self.current is not None and news["orders"] is not None:
            await self.current.take_orders(news["orders"])

    async def _ask(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        options, run = self._options, self.current
        stamp = run.node_port.stamp if run else None
        query = {
            "url": options.url,
            "run": run.run_id if run else self._done,
            "after": f"{stamp.slot}.{stamp.sequence}" if stamp else "-1.0",
            "wait_s": str(WAIT_S if self._offsets_s else 0.0),  # the first answer brings the time
        }
        url = f"{options.controller}/v1/nodes/{options.name}/news"
        shown = headers(options.keys, CONTROLLER)
        async with session.get(url, params=query, headers=shown, timeout=POLL_TIMEOUT) as answer:
            if answer.status != 200:
                problem = (await answer.text())[:200]
                self._tell(f"the controller refuses this node: {problem}")
            answer.raise_for_status()
            self._fault = ""
            news: dict[str, Any] = await answer.json()
            self._offsets_s.append(news["unix_s"] - time.time())
            return news

    def _tell(self, fault: str) -> None:
        if fault != self._fault:
            log.warning("%s", fault)
        self._fault = fault

    async def _begin_work(self, session: aiohttp.ClientSession, wanted: dict[str, Any]) -> None:
        work = self._prepare(wanted["experiment"])
        run = LiveRun(
            self._options, session, wanted, work, self._urls, self._offset_s, self._measured
        )
        # Nobody reaches the run before its past is first in the queue: a machine that knows nothing
        # yet would acknowledge a result as one that nobody waits for.
        await run.remember()
        self.current = run
        self._working = asyncio.create_task(self._work(run))

    async def _work(self, run: LiveRun) -> None:
        try:
            await run.run()
            self._done_mark(run.run_id).touch()
            self._done = run.run_id
        except EdgelmError as error:
            if not self._broken.done():
                self._broken.set_exception(error)
        finally:
            await run.close()
            self.current = None

    async def _end_work(self) -> None:
        """End the run that this node works for, if there is one."""
        if self._working is not None:
            self._working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._working

    def _done_mark(self, run_id: str) -> Path:
        """Return the file that says, over a restart, that this node has finished a run."""
        return self._options.folder_of(run_id) / "done"

"""Reports of a node to the controller: arrivals, closed records, states, and its journal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from controller.testbed.node.records import Record
from controller.testbed.node.wire import to_wire

TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0, sock_connect=2.0)
PAUSE_S: Final = 0.05  # real seconds between two reports, so that one carries what came meanwhile
RETRY_S: Final = 0.5
MOST_RECORDS: Final = 500  # in one report

log = logging.getLogger("edgelm.node")


class CentreReports:
    """Reports of one node in one run, sent until the controller has them.

    Records survive a restart in the machine's log, which issues them again; states and arrivals
    are the newest word only.

    Args:
        shown: headers that let this node in.
        delivered: told each record that the controller has.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        shown: Mapping[str, str],
        delivered: Callable[[Record], None],
    ) -> None:
        self._session, self._url, self._shown = session, url, shown
        self._delivered = delivered
        self._arrivals: list[tuple[int, float]] = []
        self._records: dict[int, tuple[Record, Callable[[], None]]] = {}
        self._state: dict[str, Any] | None = None
        self._wake = asyncio.Event()

    def arrived(self, request_id: int, arrived_s: float) -> None:
        self._arrivals.append((request_id, arrived_s))
        self._wake.set()

    def closed(self, record: Record, confirm: Callable[[], None]) -> None:
        self._records[record.request.request_id] = record, confirm
        self._wake.set()

    def state(self, document: dict[str, Any]) -> None:
        """Tell the state at a slot's end; a newer one replaces it."""
        self._state = document
        self._wake.set()

    async def run(self) -> None:
        """Send reports until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._send():
                self._wake.set()
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(PAUSE_S)

    async def flush(self) -> None:
        """Send what is left, until the controller has it."""
        while self._arrivals or self._records or self._state is not None:
            if not await self._send():
                await asyncio.sleep(RETRY_S)

    async def file(self, path: Path) -> None:
        """Send a whole file, again and again until the controller has it."""
        content = await asyncio.to_thread(path.read_bytes)
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.put(
                    f"{self._url}/files/{path.name}", data=content, headers=self._shown,
                    timeout=TIMEOUT,
                ) as answer:  # fmt: skip
                    if answer.status == 200:
                        return
            await asyncio.sleep(RETRY_S)

    async def _send(self) -> bool:
        """Send one report; return False if nobody has it."""
        arrivals, self._arrivals = self._arrivals, []
        state, self._state = self._state, None
        records = list(self._records.values())[:MOST_RECORDS]
        report = {
            "arrivals": arrivals,
            "records": [to_wire(record) for record, _ in records],
            "state": state,
        }
        try:
            async with self._session.post(
                f"{self._url}/reports", json=report, headers=self._shown, timeout=TIMEOUT
            ) as answer:
                accepted = answer.status == 200
                if not accepted:
                    log.warning("the controller refused a report: %d", answer.status)
        except (aiohttp.ClientError, TimeoutError):
            accepted = False
        if not accepted:
            self._arrivals = arrivals + self._arrivals
            self._state = self._state or state
            return False
        for record, confirm in records:
            del self._records[record.request.request_id]
            confirm()
            self._delivered(record)
        if self._records:
            self._wake.set()
        return True

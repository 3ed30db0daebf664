"""Other nodes as this one asks them, over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from controller.testbed.clock import WallClock
from controller.testbed.handshake import headers
from controller.testbed.keys import Keys
from controller.testbed.node import events
from controller.testbed.node.executor import checksum_of
from controller.testbed.node.records import Outcome, Request
from controller.testbed.node.wire import to_wire

TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0, sock_connect=2.0)

# Headers of the routes below; bodies are payloads and results, unread on the way.
REQUEST: Final = "Edgelm-Request"
OUTCOME: Final = "Edgelm-Outcome"
ATTEMPT: Final = "Edgelm-Attempt"
CHECKSUM: Final = "Edgelm-Checksum"
HOST: Final = "Edgelm-Host"

# Status of a refused transfer -> its reason, and back in http.py.
REASONS: Final[Mapping[int, str]] = {
    400: events.CHECKSUM,
    404: events.UNKNOWN_LM,
    410: events.TOO_LATE,
    429: events.FULL,
}

log = logging.getLogger("edgelm.node")


class HttpPeers:
    """The nodes of a run.

    Args:
        urls: addresses by node, kept up to date by the controller's word.
        sent: told the bytes of each body that is sent.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: WallClock,
        run_id: str,
        here: str,
        keys: Keys,
        urls: Mapping[str, str],
        sent: Callable[[int], None],
    ) -> None:
        self._session, self._clock, self._run_id = session, clock, run_id
        self._here, self._keys, self._urls, self._sent = here, keys, urls, sent

    async def send(
        self, destination: str, request: Request, attempt: int, payload: bytes
    ) -> events.Event:
        """Send a whole request; return the event that its answer, or silence, is."""
        key = request.request_id
        about = {
            REQUEST: json.dumps(to_wire(request)),
            ATTEMPT: str(attempt),
            CHECKSUM: request.checksum,
        }
        status, retry_after_s = await self._post(destination, "transfers", about, payload)
        now_s = self._clock.now()
        if status == 200:
            return events.TransferAcknowledged(now_s, key, attempt)
        reason = REASONS.get(status, events.UNREACHABLE)
        pause_s = retry_after_s * self._clock.speed
        return events.TransferFailed(now_s, key, attempt, reason, pause_s)

    async def give_back(self, origin: str, outcome: Outcome, result: bytes) -> bool:
        about = {
            OUTCOME: json.dumps(to_wire(outcome)),
            CHECKSUM: checksum_of(result),
            HOST: self._here,
        }
        status, _ = await self._post(origin, "results", about, result)
        return status == 200

    async def cancel(self, destination: str, request_id: int) -> None:
        await self._post(destination, f"requests/{request_id}/cancel", {}, b"")

    async def _post(
        self, node: str, route: str, about: dict[str, str], body: bytes
    ) -> tuple[int, float]:
        """Return the status, 0 without an answer, and the seconds of Retry-After."""
        url = self._urls.get(node)
        if url is None:
            return 0, 0.0
        self._sent(len(body))
        about = {**headers(self._keys, node), **about}
        try:
            async with self._session.post(
                f"{url}/v1/runs/{self._run_id}/{route}", headers=about, data=body, timeout=TIMEOUT
            ) as answer:
                await answer.read()
                return answer.status, float(answer.headers.get("Retry-After", "0"))
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("%s did not answer: %s", node, type(error).__name__)
            return 0, 0.0

"""Player of a workload: hands each request to its origin when it is born, in real time.

An open loop: a request is sent when it is due, whatever has become of those before. What it lags
behind is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import Permanent
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.testbed.clock import WallClock
from controller.testbed.contents import prompts_of
from controller.testbed.handshake import headers
from controller.testbed.keys import Keys

TIMEOUT: Final = aiohttp.ClientTimeout(total=20.0, sock_connect=2.0)
RETRY_S: Final = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """Record of a player; arrays are (R,), seconds of the run's clock."""

    scheduled_s: Floats
    sent_s: Floats  # first tried; NaN: never
    accepted: NDArray[np.bool_]

    @classmethod
    def nothing(cls, requests: Requests) -> Played:
        """Return the record of a player that has not begun."""
        count = len(requests)
        never, none = np.full(count, np.nan), np.zeros(count, np.bool_)
        return cls(requests.born_s.copy(), never, none)

    @property
    def slip_s(self) -> Floats:
        """Seconds that requests were tried after they were due."""
        return np.maximum(0.0, self.sent_s - self.scheduled_s)


class Player:
    """Player of one run's requests.

    Args:
        urls: addresses of the nodes.
        run_id: the run's id among services.
        played: what was played before a restart; goes on with the rest.
        note: keeps that a request, by row, was tried first or accepted.
    """

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        clock: WallClock,
        session: aiohttp.ClientSession,
        urls: Mapping[str, str],
        keys: Keys,
        run_id: str,
        played: Played,
        note: Callable[[int], None],
    ) -> None:
        self._scenario, self._requests, self._clock = scenario, requests, clock
        self._session, self._played, self._note = session, played, note
        nodes = scenario.testbed.node_names
        self._urls = [f"{urls[name]}/v1/runs/{run_id}/requests" for name in nodes]
        self._shown = [headers(keys, name) for name in nodes]

    async def play(self) -> None:
        """Play all requests, until each was accepted or its deadline has passed.

        Raises:
            Permanent: a node does not let this player in.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for row in np.flatnonzero(~self._played.accepted).tolist():
                    body = self._body(row)
                    await self._clock.sleep_until(float(self._requests.born_s[row]))
                    group.create_task(self._hand_over(row, body))
        except* Permanent as errors:
            raise errors.exceptions[0] from None

    async def _hand_over(self, row: int, body: dict[str, object]) -> None:
        """Hand a request to its origin, again and again while that does not answer."""
        origin = self._requests.origin[row]
        url, shown = self._urls[origin], self._shown[origin]
        end_s = self._requests.born_s[row] + self._scenario.tau_s
        if np.isnan(self._played.sent_s[row]) and self._clock.now() < end_s:
            self._played.sent_s[row] = self._clock.now()
            self._note(row)
        while self._clock.now() < end_s:
            try:
                async with self._session.post(
                    url, json=body, headers=shown, timeout=TIMEOUT
                ) as answer:
                    if answer.status == 202:
                        self._played.accepted[row] = True
                        self._note(row)
                        return
                    if answer.status in (401, 403, 426):
                        said = (await answer.text())[:200]
                        raise Permanent(f"{url} lets no player in ({answer.status}): {said}")
                    if answer.status not in (409, 429, 503):
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(RETRY_S)

    def _body(self, row: int) -> dict[str, object]:
        requests = self._requests
        lm = self._scenario.testbed.lms[requests.lm[row]]
        size = {name: float(values[row]) for name, values in requests.sizes.items()}
        return {
            "request_id": row,
            "lm": lm.name,
            "born_s": float(requests.born_s[row]),
            "prompts": prompts_of(lm.modality, row, int(requests.prompts[row]), size),
        }

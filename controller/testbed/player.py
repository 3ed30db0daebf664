"""Player of a workload: hands each request to its origin when it is born, in real time.

An open loop: a request is sent when it is due, whatever has become of those before. What it lags
behind is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.testbed.clock import WallClock
from controller.testbed.contents import prompts_of

TIMEOUT: Final = aiohttp.ClientTimeout(total=20.0, sock_connect=2.0)
RETRY_S: Final = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """Record of a player; arrays are (R,), seconds of the run's clock."""

    scheduled_s: Floats
    sent_s: Floats  # first tried; NaN: never
    accepted: NDArray[np.bool_]

    @property
    def slip_s(self) -> Floats:
        """Seconds that requests were tried after they were due."""
        return np.maximum(0.0, self.sent_s - self.scheduled_s)


async def play(
    scenario: Scenario,
    requests: Requests,
    clock: WallClock,
    session: aiohttp.ClientSession,
    urls: Mapping[str, str],
    run_id: str,
) -> Played:
    """Play all requests; return when each was accepted or its deadline has passed."""
    played = Played(
        requests.born_s.copy(), np.full(len(requests), np.nan), np.zeros(len(requests), np.bool_)
    )
    async with asyncio.TaskGroup() as group:
        for row in range(len(requests)):
            body = _body(scenario, requests, row)
            await clock.sleep_until(float(requests.born_s[row]))
            group.create_task(
                _hand_over(scenario, requests, row, body, clock, session, urls, run_id, played)
            )
    return played


async def _hand_over(
    scenario: Scenario,
    requests: Requests,
    row: int,
    body: dict[str, object],
    clock: WallClock,
    session: aiohttp.ClientSession,
    urls: Mapping[str, str],
    run_id: str,
    played: Played,
) -> None:
    """Hand a request to its origin, again and again while that does not answer."""
    origin = scenario.testbed.node_names[requests.origin[row]]
    url = f"{urls[origin]}/v1/runs/{run_id}/requests"
    played.sent_s[row] = clock.now()
    while clock.now() < requests.born_s[row] + scenario.tau_s:
        try:
            async with session.post(url, json=body, timeout=TIMEOUT) as answer:
                if answer.status == 202:
                    played.accepted[row] = True
                    return
                if answer.status not in (409, 429, 503):
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(RETRY_S)


def _body(scenario: Scenario, requests: Requests, row: int) -> dict[str, object]:
    lm = scenario.testbed.lms[requests.lm[row]]
    size = {name: float(values[row]) for name, values in requests.sizes.items()}
    return {
        "request_id": row,
        "lm": lm.name,
        "born_s": float(requests.born_s[row]),
        "prompts": prompts_of(lm.modality, row, int(requests.prompts[row]), size),
    }

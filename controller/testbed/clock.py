"""Wall time behind the Clock port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from controller.loop import EPSILON_S

LOOK_S: Final = 1.0  # real seconds after which a sleeper looks at the clock again


class WallClock:
    """Seconds since a run began, as they pass.

    Args:
        began_s: when the run began, by ``now_s``; the same for every process of the run.
        speed: run seconds per real second; above 1 for rehearsals of a testbed.
        now_s: the machine's clock. Wall time, not monotonic: processes of several machines share
            it, and a restarted one must find the slot that it is.
    """

    def __init__(
        self, began_s: float, speed: float = 1.0, now_s: Callable[[], float] = time.time
    ) -> None:
        self._began_s = began_s
        self.speed = speed
        self._now_s = now_s

    def now(self) -> float:
        return (self._now_s() - self._began_s) * self.speed

    def ended_slot(self, slot_s: float) -> int:
        """Return the last slot that is over, -1 in the first."""
        return int((self.now() + EPSILON_S) // slot_s) - 1

    def unix_s(self, time_s: float) -> float:
        """Return a time of the run as the machine's clock tells it."""
        return self._began_s + time_s / self.speed

    def at_unix_s(self, unix_s: float) -> float:
        """Return a time of the machine's clock as a time of the run."""
        return (unix_s - self._began_s) * self.speed

    async def sleep_until(self, time_s: float) -> None:
        # The machine's clock may stall or be set while the loop sleeps: look again, and often,
        # since a sleep that began by a wrong time would outlast its correction.
        while (left_s := time_s - self.now()) > 0:
            await asyncio.sleep(min(left_s / self.speed, LOOK_S))

    def thought_s(self, since_s: float, declared_s: float) -> float:
        del declared_s
        return max(0.0, self.now() - since_s)

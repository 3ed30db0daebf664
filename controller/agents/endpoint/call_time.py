"""The seconds that a call is charged: measured on the wall clock, or declared by the reply."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

LATENCY_HEADER = "x-edgelm-latency-s"
PATIENCE_S = 120.0  # real, with an embedded reasoner: only a hung one takes so long
BEYOND_S = 1e-6  # added to a limit, so that a late call counts as late however it is summed

Clock = Callable[[], float]  # seconds since whenever


class WallTime:
    """A call to a model elsewhere: what it took is measured, and waits are slept."""

    shares_pauses = True  # a server that says "wait" means every caller

    def __init__(self, limit_s: float, now_s: Clock = time.perf_counter) -> None:
        self._limit_s = limit_s
        self._now_s = now_s
        self._began_s = now_s()

    def left_s(self) -> float:
        """Return the seconds that may still be charged."""
        return self._limit_s - self.took_s()

    def patience_s(self) -> float:
        """Return the real seconds until the call is given up, whatever is charged."""
        return self._limit_s - (self._now_s() - self._began_s)

    def took_s(self) -> float:
        """Return the seconds to charge so far."""
        return self._now_s() - self._began_s

    def late_s(self) -> float:
        """Return the seconds to charge if it ends now without a reply: more than the limit."""
        return max(self.took_s(), self._limit_s + BEYOND_S)

    def excuse(self, waited_s: float) -> None:
        """Leave out seconds that passed for a reason of our own."""
        self._began_s += waited_s

    def charge(self, declared: str | None, measured_s: float) -> None:
        """Account for an answer with this latency header."""

    async def wait(self, wait_s: float) -> None:
        """Wait on account of the other side: charged."""
        await asyncio.sleep(wait_s)


class DeclaredTime(WallTime):
    """A call to an embedded reasoner: the latency is what its reply declares, and waits are charged
    without sleeping. Real seconds only bound how long a hung server is waited for; the limit is
    no measure of them, since a slow machine must not change what comes of a run."""

    shares_pauses = False  # no time passes, and runs must not depend on the order of calls

    def __init__(
        self,
        limit_s: float,
        now_s: Clock = time.perf_counter,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(limit_s, now_s)
        self._patience_s = patience_s
        self._charged_s = 0.0

    def patience_s(self) -> float:
        return self._patience_s

    def took_s(self) -> float:
        return self._charged_s

    def late_s(self) -> float:
        """Return just over the limit, whatever was declared: a hosted call is given up by then."""
        return self._limit_s + BEYOND_S

    def charge(self, declared: str | None, measured_s: float) -> None:
        """Add the declared latency, or what was measured where there is none."""
        self._charged_s += latency_s(declared, measured_s)

    async def wait(self, wait_s: float) -> None:
        self._charged_s += wait_s


CallTime = Callable[[float, Clock], WallTime]  # limit_s, clock -> one call's time


def latency_s(declared: str | None, otherwise_s: float) -> float:
    """Return the header's number; ``otherwise_s`` where it is missing or no duration."""
    try:
        value = float(declared) if declared is not None else math.nan
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) and value >= 0 else otherwise_s

"""A rate limit of requests and tokens per minute, and the pauses that a server asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class _Bucket:
    """A minute's allowance that refills steadily. It may be overdrawn: who overdraws it waits."""

    def __init__(self, per_minute: float, now_s: float) -> None:
        self._capacity, self._level, self._at_s = per_minute, per_minute, now_s

    def draw(self, amount: float, now_s: float) -> float:
        """Take ``amount`` (negative to give back); seconds until the level is 0 again."""
        rate = self._capacity / 60.0
        level = min(self._capacity, self._level + (now_s - self._at_s) * rate) - amount
        self._level, self._at_s = min(level, self._capacity), now_s
        return max(0.0, -level / rate)


class Limiter:
    """Shared by all callers of an endpoint. Callers are let in in the order of their coming.

    ``None`` is no limit. Tokens are drawn as estimated beforehand and corrected afterwards.
    """

    def __init__(
        self,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._requests = None if requests_per_min is None else _Bucket(requests_per_min, clock())
        self._tokens = None if tokens_per_min is None else _Bucket(tokens_per_min, clock())
        self._resume_s = 0.0

    def reserve(self, tokens: float) -> float:
        """Draw one request of so many tokens; the seconds to wait before it may be sent."""
        if self._requests is None and self._tokens is None:
            return 0.0
        now_s = self._clock()
        wait_s = self._requests.draw(1.0, now_s) if self._requests else 0.0
        return max(wait_s, self._tokens.draw(tokens, now_s)) if self._tokens else wait_s

    async def admit(self, tokens: float) -> None:
        """Wait until a request of so many tokens may be sent."""
        wait_s = self.reserve(tokens)
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)

    def correct(self, estimated: float, used: float) -> None:
        """Correct the estimate of a request: ``estimated`` tokens, ``used`` in fact."""
        if self._tokens is not None:
            self._tokens.draw(used - estimated, self._clock())

    def pause(self, wait_s: float) -> None:
        """Hold all callers for so long."""
        self._resume_s = max(self._resume_s, self._clock() + wait_s)

    def paused_s(self) -> float:
        """Return the seconds until the pause ends; 0 where there is none."""
        return max(0.0, self._resume_s - self._clock()) if self._resume_s else 0.0

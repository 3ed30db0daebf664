"""Approval of policies by a person over HTTP, while the slot in which they were decided lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from controller.testbed.clock import WallClock

SHARE: Final = 0.8  # of the slot that a person has: the rest is for the policy to take effect


@dataclass(frozen=True, slots=True)
class PolicyQuestion:
    """A policy that waits for a person's word."""

    slot: int
    reason: str  # what its maker says
    changes: tuple[str, ...]  # a line per LM and node


class Approvals:
    """Questions of one run, one at a time. One without an answer in time counts as rejected: the
    policy in force stays, and the next one is asked about.

    Args:
        tell: called with each question.
    """

    def __init__(
        self, clock: WallClock, slot_s: float, tell: Callable[[PolicyQuestion], Awaitable[None]]
    ) -> None:
        self._clock, self._slot_s, self._tell = clock, slot_s, tell
        self._question: PolicyQuestion | None = None
        self._said: asyncio.Future[bool] | None = None

    @property
    def question(self) -> dict[str, Any] | None:
        """The question that is open, for people."""
        return None if self._question is None else asdict(self._question)

    async def ask(self, slot: int, reason: str, changes: Sequence[str]) -> bool:
        """Return a person's word, False if there is none in time."""
        self._said = asyncio.get_running_loop().create_future()
        self._question = PolicyQuestion(slot, reason, tuple(changes))
        try:
            await self._tell(self._question)
            left_s = ((slot + SHARE) * self._slot_s - self._clock.now()) / self._clock.speed
            async with asyncio.timeout(max(0.0, left_s)):
                return await self._said
        except TimeoutError:
            return False
        finally:
            self._question = self._said = None

    def answer(self, slot: int, *, approved: bool) -> bool:
        """Give a person's word. Return False if it does not count: nobody asks about this slot's
        policy (any more), or the opposite was said before."""
        if self._question is None or self._question.slot != slot or self._said is None:
            return False
        if not self._said.done():
            self._said.set_result(approved)
        # Cancelled: the time ran out just now, and the policy in force stays.
        return not self._said.cancelled() and self._said.result() == approved

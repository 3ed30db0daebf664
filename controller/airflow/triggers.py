"""Triggers: what a deferred task waits for on a testbed, without a process of its own.

Cancelling is left to ``on_kill``, which Airflow calls when a person ends the task; ``cleanup`` also
runs when the triggerer restarts, and must not touch the run. Whether an ``on_kill`` still counts is
for the controller to judge, by the token of the attempt.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent

from controller.airflow.hook import TIMEOUT_S, WAIT_S, problem_of
from controller.airflow.testbed import Address
from controller.domain.phases import OVER

RETRY_S: Final = 2.0
CANCEL_S: Final = 30.0  # for which a cancellation is tried
TOLD_S: Final = 60.0  # between two lines of the log


class RunTrigger(BaseTrigger):
    """Wait for the end of a run; keep the testbed's lease meanwhile.

    Args:
        testbed: as :meth:`Address.document` gives it.
        run: id of the run.
        token: fencing token of the attempt.
        holder: who has the testbed.
        ttl_s: duration of the lease, renewed at a third of it.
        until_unix_s: when the run is to be over at last; then it is cancelled.
        silent_s: time without an answer of the controller after which the trigger gives up.
    """

    def __init__(
        self, testbed: dict[str, Any], run: str, token: str, holder: str, ttl_s: float,
        until_unix_s: float, silent_s: float = 600.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.testbed, self.run_id, self.token = testbed, run, token
        self.holder, self.ttl_s = holder, ttl_s
        self.until_unix_s, self.silent_s = until_unix_s, silent_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "testbed": self.testbed, "run": self.run_id, "token": self.token,
                "holder": self.holder, "ttl_s": self.ttl_s, "until_unix_s": self.until_unix_s,
                "silent_s": self.silent_s,
            },
        )  # fmt: skip

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield how the run has ended, as the controller says it, or why nobody knows."""
        heard_s, told_s, renewed_s = time.monotonic(), -TOLD_S, -self.ttl_s
        async with await _client(self.testbed) as client:
            while True:
                now_s = time.monotonic()
                try:
                    answer = await client.get(f"/v1/runs/{self.run_id}")
                    if answer.is_client_error:  # not this testbed's keys, or no such run
                        yield TriggerEvent({"phase": "refused", "problem": problem_of(answer)})
                        return
                    found = answer.raise_for_status().json()
                    heard_s = time.monotonic()
                    if found["phase"] in OVER:
                        yield TriggerEvent(found)
                        return
                    if time.time() > self.until_unix_s:
                        await self.on_kill()  # Airflow's own timeout would leave the run on
                        problem = "it took too long and was cancelled"
                        yield TriggerEvent({"phase": "timed out", "problem": problem})
                        return
                    if now_s - renewed_s > self.ttl_s / 3:
                        await self._keep_lease(client)
                        renewed_s = now_s
                    if now_s - told_s > TOLD_S:
                        self.log.info("run %s: %s", self.run_id, _progress(found))
                        told_s = now_s
                    await self._wait_for_events(client, found["events"])
                except httpx.HTTPError as error:
                    if time.monotonic() - heard_s > self.silent_s:
                        yield TriggerEvent({"phase": "silent", "problem": f"{error!r}"})
                        return
                    self.log.warning("the controller does not answer: %r", error)
                    await asyncio.sleep(RETRY_S)

    async def on_kill(self) -> None:
        """Cancel the run, if this attempt is still the one that it obeys."""
        end_s = time.monotonic() + CANCEL_S
        async with await _client(self.testbed) as client:
            while time.monotonic() < end_s:
                try:
                    answer = await client.post(
                        f"/v1/runs/{self.run_id}/cancel", headers={"Fencing-Token": self.token}
                    )
                except httpx.HTTPError as error:
                    self.log.warning("not cancelled yet: %r", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                said = "cancelled" if answer.is_success else problem_of(answer)
                self.log.info("run %s: %s", self.run_id, said)
                return

    async def _keep_lease(self, client: httpx.AsyncClient) -> None:
        fence = int(self.token.partition(".")[0])
        body = {"holder": self.holder, "ttl_s": self.ttl_s, "fence": fence}
        answer = await client.put("/v1/lease", json=body)
        if not answer.is_success:  # the run will be cancelled by who has it now
            self.log.warning("the lease is not renewed: %s", problem_of(answer))

    async def _wait_for_events(self, client: httpx.AsyncClient, after: int) -> None:
        """Return as soon as the controller's log has an event after this number."""
        wait_s = max(0.0, min(WAIT_S, self.ttl_s / 3, self.until_unix_s - time.time()))
        query = {"after": after, "wait_s": wait_s}
        (await client.get("/v1/events", params=query)).raise_for_status()


class StateTrigger(BaseTrigger, ABC):
    """Wait until the controller's state says something: look at it again and again."""

    def __init__(self, testbed: dict[str, Any], look_s: float) -> None:
        super().__init__()
        self.testbed, self.look_s = testbed, look_s

    @abstractmethod
    def event_of(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return the event that a state is, None to go on waiting."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the first event."""
        async with await _client(self.testbed) as client:
            while True:
                try:
                    state = (await client.get("/v1/state")).raise_for_status().json()
                    event = self.event_of(state)
                    if event is not None:
                        yield TriggerEvent(event)
                        return
                except httpx.HTTPError as error:
                    self.log.warning("the controller does not answer: %r", error)
                await asyncio.sleep(self.look_s)


class FreeTestbedTrigger(StateTrigger):
    """Wait until nobody else has the testbed, nor another run of the same holder."""

    def __init__(self, testbed: dict[str, Any], holder: str, run: str, look_s: float = 5.0) -> None:
        super().__init__(testbed, look_s)
        self.holder, self.run_id = holder, run

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "testbed": self.testbed, "holder": self.holder, "run": self.run_id,
                "look_s": self.look_s,
            },
        )  # fmt: skip

    def event_of(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return an event once the testbed is free, or the holder's own."""
        lease, run = state["lease"], state["run"]
        if lease is None and state["store_fault"]:
            return None  # nobody knows
        is_mine = lease is None or lease["holder"] == self.holder
        is_over = run is None or run["phase"] in OVER or run["id"] == self.run_id
        if is_mine and (is_over or run["holder"] != self.holder):
            return {"phase": "free"}
        return None


class QuestionTrigger(StateTrigger):
    """Wait until a run's controller asks for a person's word on the policy of a slot."""

    def __init__(self, testbed: dict[str, Any], run: str, slot: int, look_s: float = 0.5) -> None:
        super().__init__(testbed, look_s)
        self.run_id, self.slot = run, slot

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "testbed": self.testbed, "run": self.run_id, "slot": self.slot,
                "look_s": self.look_s,
            },
        )  # fmt: skip

    def event_of(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return the question, or none if the run is over or past it."""
        run, question = state["run"], state["approval"]
        if run is None or run["id"] != self.run_id:
            return None
        if question is not None and question["slot"] == self.slot:
            return {"question": question}
        if run["phase"] in OVER or (run["slot"] or 0) > self.slot:
            return {"question": None}
        return None


async def _client(testbed: dict[str, Any]) -> httpx.AsyncClient:
    one = Address(**testbed)
    shown = await asyncio.to_thread(one.headers)  # reads a file
    return httpx.AsyncClient(base_url=one.url, headers=shown, timeout=TIMEOUT_S)


def _progress(found: dict[str, Any]) -> str:
    if found["waiting_for"]:
        return f"waits for {', '.join(found['waiting_for'])}"
    slot = "" if found["slot"] is None else f", slot {max(0, found['slot'])} of {found['slots']}"
    return f"{found['phase']}{slot}, {found['succeeded']} of {found['records']} requests succeeded"

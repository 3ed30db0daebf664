"""LM servers as a node asks them: HTTP of docs/lm-server.md."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from controller.testbed.clock import WallClock
from controller.testbed.node import events
from controller.testbed.node.executor import Notify
from controller.testbed.node.instructions import Compute

WAIT_S: Final = 20.0  # of a long poll, in real seconds
BEGIN_S: Final = 0.03
TIMEOUT: Final = aiohttp.ClientTimeout(total=WAIT_S + 10.0, sock_connect=2.0)
OVER: Final = "engine_error"

log = logging.getLogger("edgelm.node")


class LmServers:
    """The servers of one node's pods.

    Args:
        run_id: prefixes the ids of requests, so that a server's files of another run do no harm.
        url_of: the address of an LM's ready server, or None.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: WallClock,
        run_id: str,
        url_of: Callable[[str], str | None],
    ) -> None:
        self._session, self._clock = session, clock
        self._run_id, self._url_of = run_id, url_of

    async def compute(self, order: Compute, payload: bytes, notify: Notify) -> None:
        """Submit the request, or find it again, and follow it until it is over."""
        url = self._url_of(order.lm)
        if url is None:
            self._fail(order, notify)
            return
        try:
            await self._follow(order, payload, url, notify)
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
            if self._url_of(order.lm) == url:  # else its pod was stopped
                log.warning("%s did not answer: %s", order.lm, type(error).__name__)
            self._fail(order, notify)

    async def cancel(self, lm: str, request_id: int) -> None:
        url = self._url_of(lm)
        if url is None:
            return
        try:
            async with self._session.delete(f"{url}/v1/requests/{self._id(request_id)}"):
                return
        except (aiohttp.ClientError, TimeoutError):
            return  # its deadline ends it

    async def _follow(self, order: Compute, payload: bytes, url: str, notify: Notify) -> None:
        here = f"{url}/v1/requests/{self._id(order.request_id)}"
        body = {
            "id": self._id(order.request_id),
            "prompts": json.loads(payload)["prompts"],
            "deadline_unix_s": self._clock.unix_s(order.deadline_s),
        }
        told = Told(order, self._clock, notify)
        wait = {"wait_s": str(WAIT_S)}
        # A short wait: long enough to hear that the first batch has begun, or that all is done.
        view = await self._json("POST", f"{url}/v1/requests", {"wait_s": str(BEGIN_S)}, body)
        while True:
            everything = len(view["recorded"]) == len(body["prompts"])
            results = await self._bytes(f"{here}/results") if everything else None
            told.take(view, results)
            if everything or view["state"] != "open":
                break
            view = await self._json("GET", here, {**wait, "after": str(len(view["recorded"]))})
        if view["state"] == OVER:
            self._fail(order, notify)

    async def _json(
        self, method: str, url: str, query: dict[str, str], body: Any = None
    ) -> dict[str, Any]:
        async with self._session.request(
            method, url, params=query, json=body, timeout=TIMEOUT
        ) as answer:
            if answer.status in (429, 503):
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
            answer.raise_for_status()
            view: dict[str, Any] = await answer.json()
            return view

    async def _bytes(self, url: str) -> bytes:
        async with self._session.get(url, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            return await answer.read()

    def _fail(self, order: Compute, notify: Notify) -> None:
        notify(events.EngineFailed(self._clock.now(), order.request_id, order.attempt), None)

    def _id(self, request_id: int) -> str:
        return f"{self._run_id}:{request_id}"


class Told:
    """Batches of a request that the machine knows of: each is told once."""

    def __init__(self, order: Compute, clock: WallClock, notify: Notify) -> None:
        self._order, self._clock, self._notify = order, clock, notify
        self._begun: set[tuple[int, ...]] = set()
        self._done: set[int] = set()

    def take(self, view: dict[str, Any], results: bytes | None) -> None:
        """Tell what is new in a server's view; the last batch comes with ``results``."""
        batches = [one for one in view["batches"] if not self._done.issuperset(one["prompts"])]
        for k, batch in enumerate(batches):
            prompts = tuple(batch["prompts"])
            began_s = self._clock.at_unix_s(batch["began_unix_s"])
            self._begin(prompts, began_s)
            self._done.update(prompts)
            done = events.PromptDone(
                self._clock.at_unix_s(batch["recorded_unix_s"]),
                self._order.request_id,
                prompts,
                began_s,
                view["recomputed_prompts"],
            )
            self._notify(done, results if k == len(batches) - 1 else None)
        if view["computing"] is not None:
            batch = view["computing"]
            self._begin(tuple(batch["prompts"]), self._clock.at_unix_s(batch["began_unix_s"]))

    def _begin(self, prompts: tuple[int, ...], began_s: float) -> None:
        if prompts not in self._begun:
            self._begun.add(prompts)
            order = self._order
            self._notify(
                events.BatchStarted(began_s, order.request_id, order.attempt, prompts, began_s),
                None,
            )

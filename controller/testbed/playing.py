"""The player's service: plays the workload of the run that the controller names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import aiohttp
import numpy as np

from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.files import forget_oldest, replace_file
from controller.testbed.clock import WallClock
from controller.testbed.handshake import KEPT_TRACES, headers
from controller.testbed.keys import CONTROLLER, Keys
from controller.testbed.player import Played, Player

WAIT_S: Final = 20.0  # of a long poll
FETCH: Final = aiohttp.ClientTimeout(total=600.0, sock_connect=2.0)  # of a trace
TIMEOUT: Final = aiohttp.ClientTimeout(total=WAIT_S + 10.0, sock_connect=2.0)
RETRY_S: Final = 0.5

log = logging.getLogger("edgelm.player")


class Workload(Protocol):
    """Part of an experiment that the player works on."""

    scenario: Scenario
    trace_sha256: str  # of the trace that it plays, "" if it plays none

    def requests(self, root: Path) -> Requests:
        """Draw the requests. ``root``: folder with the trace, as the service has fetched
        it."""
        ...


class Playbook:
    """Record of what a player has done of a run, in a file, so that a restart goes on from it.

    A kill may lose the last line: its request is handed over again, and its node knows it.
    """

    def __init__(self, path: Path, requests: Requests) -> None:
        self._path = path
        self.played = Played.nothing(requests)
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # torn by a kill
                    row, sent_s, accepted = json.loads(line)
                    self.played.sent_s[row], self.played.accepted[row] = sent_s, accepted
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends a torn line

    def forget_others(self) -> None:
        """Remove the records of other runs: they are over, or this one would not be played."""
        for path in self._path.parent.glob("*.jsonl"):
            if path != self._path:
                path.unlink(missing_ok=True)

    def note(self, row: int) -> None:
        """Keep what has become of a request."""
        played = self.played
        line = [row, float(played.sent_s[row]), bool(played.accepted[row])]
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def document(self) -> dict[str, Any]:
        """Return the record as the controller takes it."""
        sent_s = self.played.sent_s
        return {
            "scheduled_s": self.played.scheduled_s.tolist(),
            "sent_s": [None if np.isnan(one) else one for one in sent_s.tolist()],
            "accepted": self.played.accepted.tolist(),
        }


@dataclass(frozen=True, slots=True)
class PlayerService:
    """The player.

    Args:
        controller: its URL.
        data: folder of its state.
        prepare: reads an experiment.json; raises InputError.
    """

    controller: str
    data: Path
    keys: Keys
    prepare: Callable[[str], Workload]
    instance: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def run(self) -> None:
        """Follow the controller until cancelled."""
        known, playing = "", None
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
            try:
                while True:
                    news = await self._ask(session, known)
                    if news is None:
                        await asyncio.sleep(RETRY_S)
                        continue
                    wanted = news["run"]
                    if (wanted["id"] if wanted else "") == known:
                        continue
                    await _end(playing)
                    known, playing = "", None
                    if wanted is not None:
                        known = wanted["id"]
                        playing = asyncio.create_task(self._play(session, wanted, news["nodes"]))
            finally:
                await _end(playing)

    async def _ask(self, session: aiohttp.ClientSession, known: str) -> dict[str, Any] | None:
        """Return the controller's news, None while it has none to give."""
        url = f"{self.controller}/v1/player/news"
        query = {"instance": self.instance, "run": known, "wait_s": str(WAIT_S)}
        try:
            async with session.get(url, params=query, headers=self._shown) as answer:
                if answer.status == 200:
                    news: dict[str, Any] = await answer.json()
                    return news
                problem = (await answer.text())[:200]
                log.warning("the controller refuses the player (%s): %s", answer.status, problem)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("the controller does not answer (%s)", type(error).__name__)
        return None

    async def _play(
        self, session: aiohttp.ClientSession, wanted: dict[str, Any], nodes: dict[str, str]
    ) -> None:
        """Play a run, and tell the controller when it is played."""
        try:
            work = self.prepare(wanted["experiment"])
            await self._fetch(session, work.trace_sha256)
            nodes = await self._all_nodes(session, work.scenario.testbed.node_names, nodes)
            requests = await asyncio.to_thread(work.requests, self.data)
            playbook = Playbook(self.data / "runs" / f"{wanted['id']}.jsonl", requests)
            playbook.forget_others()
            with contextlib.closing(playbook):
                clock = WallClock(wanted["began_unix_s"], wanted["speed"])
                player = Player(
                    work.scenario, requests, clock, session, nodes, self.keys, wanted["id"],
                    playbook.played, playbook.note,
                )  # fmt: skip
                log.info("playing run %s: %d requests", wanted["id"], len(requests))
                await player.play()
            document = playbook.document()
        except Exception as error:  # whatever it is, the run must not wait for it
            log.exception("run %s cannot be played", wanted["id"])
            document = {"problem": f"the player: {type(error).__name__}: {error}"[:1000]}
        if await self._tell(session, wanted["id"], document):
            (self.data / "runs" / f"{wanted['id']}.jsonl").unlink(missing_ok=True)

    async def _all_nodes(
        self, session: aiohttp.ClientSession, names: tuple[str, ...], nodes: dict[str, str]
    ) -> dict[str, str]:
        """Return the addresses of a run's nodes; wait for those that a controller which has just
        started does not know yet."""
        while any(name not in nodes for name in names):
            await asyncio.sleep(RETRY_S)
            news = await self._ask(session, "")
            nodes = news["nodes"] if news else nodes
        return nodes

    async def _fetch(self, session: aiohttp.ClientSession, sha256: str) -> None:
        """Get a trace from the controller, unless it is here."""
        path = self.data / "traces" / f"{sha256}.csv"
        if not sha256:
            return
        if path.exists():
            path.touch()  # used now: see below
            return
        url = f"{self.controller}/v1/traces/{sha256}"
        while True:
            try:
                async with session.get(url, headers=self._shown, timeout=FETCH) as answer:
                    answer.raise_for_status()
                    content = await answer.read()
                    break
            except aiohttp.ClientResponseError as error:
                if error.status < 500:
                    raise
            except (aiohttp.ClientError, TimeoutError):
                log.warning("the controller gives no trace yet")
            await asyncio.sleep(RETRY_S)
        await asyncio.to_thread(replace_file, path, content)
        await asyncio.to_thread(forget_oldest, path.parent, KEPT_TRACES)

    async def _tell(
        self, session: aiohttp.ClientSession, run: str, document: dict[str, Any]
    ) -> bool:
        """Give the record to the controller, again and again while that does not answer. Return
        False if it wants no record of this run any more."""
        url = f"{self.controller}/v1/player/runs/{run}/played"
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(url, json=document, headers=self._shown) as answer:
                    if answer.status == 200:
                        log.info("run %s is played", run)
                        return True
                    if answer.status == 404:
                        return False
                    log.error("the record is refused (%s): %s", answer.status, await answer.text())
            await asyncio.sleep(RETRY_S)

    @property
    def _shown(self) -> dict[str, str]:
        return headers(self.keys, CONTROLLER)


async def _end(playing: asyncio.Task[None] | None) -> None:
    if playing is not None:
        playing.cancel()
        await asyncio.wait({playing})

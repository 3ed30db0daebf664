"""Runs experiments on a testbed's services: asks the controller, watches, collects the files."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import polars as pl

from controller.bootstrap.calls import TIMES, call_figures, calls_parquet
from controller.bootstrap.transcripts import described, merged_transcript
from controller.bootstrap.twin import draw_requests, reading_kept_trace
from controller.campaigns.code_digest import code_digest
from controller.campaigns.experiment import Experiment, load_experiment, trace_of
from controller.campaigns.pool import Engine, Listener
from controller.campaigns.watch import Advance
from controller.domain.errors import InputError, Permanent
from controller.domain.phases import DONE, OVER
from controller.domain.requests import (
    FAILURES,
    LOST_NODE,
    NOWHERE,
    UNFINISHED,
    Requests,
    RequestTable,
)
from controller.domain.scenario import Scenario
from controller.results.folder import trace_path
from controller.results.spool import merge_spools
from controller.results.summary import Usage
from controller.results.tables import to_parquet
from controller.results.writing import Outcome, run_files
from controller.testbed.handshake import CENTRE, JOURNAL, TRANSCRIPT, headers
from controller.testbed.keys import CONTROLLER, NO_KEYS, Keys, read_keys
from controller.testbed.node.records import Record
from controller.testbed.node.wire import record_from_wire
from controller.testbed.player import Played

POLL_S: Final = 0.5
PATIENCE_S: Final = 60.0  # real seconds for a controller that does not answer
TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0)
PLAYER: Final = "player.parquet"
CALLS: Final = "calls.parquet"
SLIP_SHARE: Final = 0.1  # of a slot: the bound of the player's p99 slip


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a testbed's services, and the fence of the lease on them. The operator's keys are
    in a file and nowhere else."""

    url: str
    keys_file: str
    speed: float
    fence: int = 0

    def keys(self) -> Keys:
        return read_keys(Path(self.keys_file)) if self.keys_file else NO_KEYS


def live_engine(testbed: Address) -> Engine:
    """Return the engine that makes the runs of a campaign on a testbed."""
    return Engine(partial(execute, testbed=testbed), _nothing)


def execute(text: str, root: Path, listener: Listener, testbed: Address) -> dict[str, bytes]:
    """Make the run of an experiment.json on a testbed."""
    return asyncio.run(_execute(text, root, listener, testbed))


async def _execute(text: str, root: Path, listener: Listener, testbed: Address) -> dict[str, bytes]:
    experiment = load_experiment(text, "experiment.json")
    async with aiohttp.ClientSession(
        timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        centre = Centre(session, testbed, experiment.run_id)
        try:
            await _offer_trace(centre, experiment, root)
            await centre.begin(text)
            found = await centre.until_done(listener)
        except BaseException:
            await centre.cancel()
            raise
        records, played = await centre.records(), await centre.played()
        scenario = experiment.scenario()
        names = scenario.testbed.node_names
        journals = await centre.files(JOURNAL, names)
        transcripts = await centre.files(TRANSCRIPT, names) if experiment.reasoner else {}
    requests = draw_requests(reading_kept_trace(experiment, root), scenario)
    transcript = merged_transcript(transcripts.values()) if experiment.reasoner else None
    table = _table(scenario, requests, records, played)
    calls = [one for one in records if one.request.request_id >= len(requests)]
    outcome = Outcome(
        scenario=scenario,
        requests=requests,
        table=table,
        journal=merge_spools(journals, scenario.testbed),
        usage=Usage(found["slots"], None, found["pod_starts"]),
        wall_s=found["wall_s"],
        code=code_digest(experiment.strategy),
        target=experiment.target,
        reasoner=described(experiment, transcript),
        transcript=transcript,
        further={
            "player": _player_figures(played, scenario),
            "began_unix_s": found["began_unix_s"],
            "time_scale": found["speed"],
            "clock_offsets_s": found["clock_offsets_s"],
            **({"calls": call_figures(scenario, table, calls)} if calls else {}),
        },
    )
    files = {**run_files(text, outcome), PLAYER: _player_table(played)}
    return files | ({CALLS: calls_parquet(scenario.testbed, calls)} if calls else {})


class Centre:
    """The controller, as a run's maker asks it."""

    def __init__(self, session: aiohttp.ClientSession, testbed: Address, run_id: str) -> None:
        self._session, self._url, self._run_id = session, testbed.url, run_id
        self._speed = testbed.speed
        self._fence = testbed.fence
        fence = {"Fencing-Token": f"{testbed.fence}.0"}
        self._shown = {**headers(testbed.keys(), CONTROLLER), **fence}
        self._begun = False

    async def offer_trace(self, sha256: str, content: bytes) -> None:
        """Give the controller the trace that a run plays."""
        await self._content("PUT", f"{self._url}/v1/traces/{sha256}", data=content)

    async def begin(self, experiment: str) -> None:
        """Ask for the run.

        Raises:
            InputError: the controller cannot make it.
            Permanent: it does not answer, or is busy.
        """
        run = f"{self._url}/v1/runs/{self._run_id}"
        body = {"experiment": experiment, "speed": self._speed}
        status, content = await self._patiently("PUT", run, json=body)
        found: dict[str, Any] = json.loads(content)
        if status == 409 and not self._fence:
            raise Permanent(f"run {self._run_id} is not finished on the testbed: wait for its end")
        if status == 422:
            raise InputError("the controller", found.get("problem", str(found)))
        if status != 200:
            raise Permanent(f"the controller refuses the run: {found.get('problem', found)}")
        self._begun = True

    async def until_done(self, listener: Listener) -> dict[str, Any]:
        """Wait until the run is done; tell how far it is meanwhile.

        Raises:
            Permanent: it failed, or was cancelled.
        """
        while True:
            found = await self.look()
            if found is not None and found["phase"] == DONE:
                return found
            if found is not None and found["phase"] in OVER:
                raise Permanent(f"the run {found['phase']}: {found['problem']}")
            if found is not None and found["slot"] is not None:
                slot = min(max(0, found["slot"]), found["slots"])
                listener.advanced(found["id"], Advance(slot, found["slots"], 0, None))
            await asyncio.sleep(POLL_S)

    async def look(self) -> dict[str, Any] | None:
        """Return how far the run is; None while the controller does not answer."""
        try:
            url = f"{self._url}/v1/runs/{self._run_id}"
            async with self._session.get(url, headers=self._shown) as answer:
                found: dict[str, Any] = await answer.json()
                return found if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def played(self) -> Played:
        """Return what the player has done."""
        content = await self._content("GET", f"{self._url}/v1/runs/{self._run_id}/played")
        found = json.loads(content)
        floats = {name: np.array(found[name], np.float64) for name in ("scheduled_s", "sent_s")}
        return Played(accepted=np.array(found["accepted"], np.bool_), **floats)

    async def cancel(self) -> None:
        """End the run, as far as the controller can still be asked."""
        if not self._begun:
            return
        url = f"{self._url}/v1/runs/{self._run_id}/cancel"
        try:
            async with self._session.post(url, headers=self._shown):
                return
        except (aiohttp.ClientError, TimeoutError):
            return

    async def records(self) -> list[Record]:
        content = await self._content("GET", f"{self._url}/v1/runs/{self._run_id}/records")
        return [record_from_wire(line) for line in content.splitlines()]

    async def files(self, name: str, nodes: tuple[str, ...]) -> dict[str, bytes]:
        """Return a file that the centre and every node have left, by whose it is."""
        places = {node: f"nodes/{node}/files/{name}" for node in (CENTRE, *nodes)}
        run = f"{self._url}/v1/runs/{self._run_id}"
        return {node: await self._content("GET", f"{run}/{at}") for node, at in places.items()}

    async def _content(self, method: str, url: str, **body: Any) -> bytes:
        """Return what the controller answers.

        Raises:
            Permanent: it does not, or refuses.
        """
        status, content = await self._patiently(method, url, **body)
        if status != 200:
            raise Permanent(f"{method} {url} was refused ({status}): {content[:200]!r}")
        return content

    async def _patiently(self, method: str, url: str, **body: Any) -> tuple[int, bytes]:
        """Ask again while nobody answers, or its store does not: both are started again."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                async with self._session.request(
                    method, url, headers=self._shown, **body
                ) as answer:
                    content = await answer.read()
                    if answer.status != 503 or time.monotonic() > end_s:
                        return answer.status, content
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() > end_s:
                    problem = f"the controller at {self._url} does not answer: {error}"
                    raise Permanent(problem) from error
            await asyncio.sleep(POLL_S)


async def _offer_trace(centre: Centre, experiment: Experiment, root: Path) -> None:
    trace = trace_of(experiment.workload)
    if trace is not None:
        content = await asyncio.to_thread(trace_path(root, trace.sha256).read_bytes)
        await centre.offer_trace(trace.sha256, content)


def _table(
    scenario: Scenario, requests: Requests, records: list[Record], played: Played
) -> RequestTable:
    """Return the records as the reported table. A request that no node has taken is
    ``lost_node``, one without a record ``unfinished``."""
    count, nodes = len(requests), scenario.testbed.node_names
    times = {name: np.full(count, np.nan) for name in TIMES}
    destination = np.full(count, NOWHERE)
    failure = np.where(played.accepted, UNFINISHED, LOST_NODE)
    attempts, recomputed = np.zeros((2, count), np.int64)
    for record in records:
        row = record.request.request_id
        if row >= count:  # a call: not of the workload
            continue
        failure[row] = FAILURES.index(record.failure or "")
        attempts[row], recomputed[row] = record.attempts, record.recomputed_prompts
        if record.destination is not None:
            destination[row] = nodes.index(record.destination)
        for name in TIMES:
            value = getattr(record, name)
            if value is not None:
                times[name][row] = value
    return RequestTable(
        lm=requests.lm,
        origin=requests.origin,
        destination=destination,
        prompts=requests.prompts,
        slot=requests.slot,
        born_s=requests.born_s,
        failure=failure,
        attempts=attempts,
        recomputed_prompts=recomputed,
        **times,
    )


def _player_table(played: Played) -> bytes:
    """Return when each request was due and when it was sent, as Parquet."""
    table = pl.DataFrame(
        {
            "scheduled_s": played.scheduled_s,
            "sent_s": pl.Series(played.sent_s).fill_nan(None),
            "accepted": played.accepted,
        }
    ).with_row_index("request_id")
    # The type of requests.parquet, so that the two can be joined.
    return to_parquet(table.with_columns(pl.col("request_id").cast(pl.Int64)))


def _player_figures(played: Played, scenario: Scenario) -> dict[str, Any]:
    """Return how far the player lagged behind; ``in_time`` False: the arrivals were not those of
    the workload."""
    slip_s = played.slip_s[np.isfinite(played.slip_s)]
    bound_s = SLIP_SHARE * scenario.slot_s
    p99_s = float(np.percentile(slip_s, 99)) if slip_s.size else None
    return {
        "sent": int(slip_s.size),
        "not_accepted": int((~played.accepted).sum()),
        "slip_p50_s": float(np.percentile(slip_s, 50)) if slip_s.size else None,
        "slip_p99_s": p99_s,
        "bound_s": bound_s,
        "in_time": p99_s is None or p99_s <= bound_s,
    }


def _nothing() -> None:
    """Services compile nothing."""

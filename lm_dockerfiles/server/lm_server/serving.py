"""Queue of requests in front of one worker: deadlines, cancellation, the worker's restarts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from lm_server.checkpoint import Checkpoint, Progress
from lm_server.worker import LOADED, RESULTS, STOPPED, Answer, Batch, Worker

DEADLINE: Final = "deadline"
CANCELLED: Final = "cancelled"
ENGINE_ERROR: Final = "engine_error"

MOST_DEATHS: Final = 3  # of workers in one batch, after which the batch is given up
RESTART_S: Final = 0.5  # pause before a worker is started again

log = logging.getLogger("lm_server")


class WorkerLost(Exception):
    """The worker's process ended without an answer."""


class Serving:
    """One LM's requests, first come first served.

    Args:
        start: starts a worker.
        now_s: wall time, by which deadlines are given.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        start: Callable[[], Worker],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._checkpoint, self._start, self._now_s = checkpoint, start, now_s
        open_requests = [one for one in checkpoint.requests.values() if one.failure is None]
        self._queue = deque(sorted(open_requests, key=lambda one: one.sequence))
        self._wake = asyncio.Event()
        self._worker: Worker | None = None
        self._loaded: Answer | None = None
        self._number = 0  # of the batch in the worker
        self._current: Progress | None = None
        self._cancelled: set[str] = set()
        self.draining = False
        self.counts: Counter[str] = Counter()
        self.busy_s = 0.0
        self.threads = 0

    @property
    def silent_s(self) -> float:
        """Seconds since the worker has shown a sign of life; 0 while there is none to wait for."""
        return self._worker.silent_s if self._worker and self._loaded else 0.0

    @property
    def loaded(self) -> Answer | None:
        """The engine's description; None while it is loading."""
        return self._loaded

    @property
    def waiting_prompts(self) -> int:
        """Number of prompts of requests that are not over."""
        waiting = [*self._queue, *([self._current] if self._current else [])]
        return sum(len(one.request["prompts"]) - len(one.recorded) for one in waiting)

    def add(self, progress: Progress) -> None:
        """Queue a request that is on disk."""
        self._queue.append(progress)
        self._wake.set()

    async def cancel(self, progress: Progress) -> None:
        """End a request that is not over; the engine is free within one slice."""
        self._cancelled.add(progress.request["id"])
        if progress is self._current and self._worker:
            self._worker.stop(self._number)
        elif progress in self._queue:
            self._queue.remove(progress)
            await self._end(progress, CANCELLED)

    async def run(self) -> None:
        """Serve until cancelled, or until drained."""
        await self._restart()
        while not self.draining:
            if not self._queue:
                await self._idle()
                continue
            self._current = self._queue.popleft()
            try:
                await self._serve(self._current)
            finally:
                self._current = None

    async def _idle(self) -> None:
        """Wait for a request, and replace a worker that dies meanwhile."""
        worker, loop = self._worker, asyncio.get_running_loop()
        self._wake.clear()
        if worker is None:
            return
        loop.add_reader(worker.connection.fileno(), self._wake.set)  # an idle worker says nothing
        try:
            await self._wake.wait()
        finally:
            loop.remove_reader(worker.connection.fileno())
        if not self.draining:
            await self._replace_dead()

    async def _replace_dead(self) -> None:
        if self._worker is None or not self._worker.is_alive:
            await self._restart()

    def drain(self, *, at_once: bool = False) -> None:
        """Take nothing new. The batch in hand is finished, or with ``at_once`` stopped; the rest
        is on disk for the next start."""
        self.draining = True
        self._wake.set()
        if at_once and self._worker:
            self._worker.stop(self._number)

    def close(self) -> None:
        """End the worker."""
        if self._worker:
            self._worker.kill()
            self._worker = None

    async def _serve(self, progress: Progress) -> None:
        deaths = 0
        while not self.draining:
            failure = self._reason_to_end(progress)
            prompts = range(len(progress.request["prompts"]))
            missing = [index for index in prompts if index not in progress.recorded]
            if failure is not None or not missing:
                await self._end(progress, failure or "")
                return
            await self._replace_dead()  # nothing is begun in vain
            batch = missing[: self._loaded.batch if self._loaded else 1]
            self._checkpoint.begin(progress.request["id"], batch)
            try:
                answer = await self._compute(progress, batch)
            except WorkerLost:
                deaths += 1
                await self._restart()
                if deaths == MOST_DEATHS:
                    await self._end(progress, ENGINE_ERROR)
                    return
                continue
            if answer.kind == RESULTS:
                self.counts["prompts"] += len(batch)
                self.busy_s += answer.seconds
                self.threads = answer.threads
                results = dict(zip(batch, answer.results, strict=True))
                await asyncio.to_thread(self._checkpoint.record, progress.request["id"], results)
            elif answer.kind != STOPPED:
                self.counts["engine_errors"] += 1
                log.warning("the engine failed: %s", answer.error)
                await self._end(progress, ENGINE_ERROR)
                return

    def _reason_to_end(self, progress: Progress) -> str | None:
        if progress.request["id"] in self._cancelled:
            return CANCELLED
        return DEADLINE if self._now_s() >= progress.request["deadline_unix_s"] else None

    async def _compute(self, progress: Progress, batch: list[int]) -> Answer:
        """Return the worker's answer to a batch, which the deadline stops.

        Raises:
            WorkerLost: it died.
        """
        worker = self._worker
        if worker is None:
            raise WorkerLost
        self._number += 1
        prompts: list[dict[str, Any]] = [progress.request["prompts"][k] for k in batch]
        left_s = progress.request["deadline_unix_s"] - self._now_s()
        alarm = asyncio.get_running_loop().call_later(max(0.0, left_s), worker.stop, self._number)
        try:
            worker.send(Batch(self._number, prompts))
            return await self._answer(worker)
        except OSError as error:
            raise WorkerLost from error
        finally:
            alarm.cancel()

    async def _answer(self, worker: Worker) -> Answer:
        """Return the worker's next answer, waiting on its pipe without a thread."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(worker.connection.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(worker.connection.fileno())
        try:
            answer: Answer = worker.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost from error
        return answer

    async def _restart(self) -> None:
        """Start a worker, again and again until one has loaded its engine."""
        self._loaded = None
        while not self.draining:
            if self._worker:
                self.counts["worker_restarts"] += 1
                log.warning("the worker died and is started again")
                self._worker.kill()
            self._worker = await asyncio.to_thread(self._start)
            try:
                answer = await self._answer(self._worker)
            except WorkerLost:
                log.warning("the worker ended while it loaded the engine")
                await asyncio.sleep(RESTART_S)
                continue
            if answer.kind == LOADED:
                self._loaded, self.threads = answer, answer.threads
                return

    async def _end(self, progress: Progress, failure: str) -> None:
        self.counts[f"requests_{failure or 'done'}"] += 1
        self._cancelled.discard(progress.request["id"])
        await asyncio.to_thread(self._checkpoint.end, progress.request["id"], failure)

"""Queue of requests in front of one worker: deadlines, cancellation, the worker's restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from lm_server.checkpoint import Checkpoint, Progress
from lm_server.worker import (
    FAILED,
    LOADED,
    OUT_OF_MEMORY,
    RESULTS,
    STOPPED,
    Answer,
    Batch,
    Worker,
)

DEADLINE: Final = "deadline"
CANCELLED: Final = "cancelled"
ENGINE_ERROR: Final = "engine_error"
REASONS: Final = (OUT_OF_MEMORY, "worker_lost", "engine_failed", "contents_lost")

MOST_DEATHS: Final = 3  # of workers in one batch, after which the batch is given up
RESTART_S: Final = 0.5  # pause before a worker is started again
STORE_S: Final = 0.5  # pause before a full disk is tried again

SMALL_BYTES: Final = 2**15  # fits into a pipe, and costs less than a thread

log = logging.getLogger("lm_server")


class WorkerLost(Exception):
    """The worker's process ended without an answer."""


class EngineUnusable(Exception):
    """The engine does not load; the message says why."""


class Draining(Exception):
    """A shutdown has begun, and what was going on is left to the next start."""


@dataclass(frozen=True, slots=True)
class Computing:
    """The batch that is in the worker."""

    progress: Progress
    prompts: list[int]
    began_unix_s: float


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
        # Their clients' connections ended with the former server.
        self._cancelled = {one.id for one in open_requests if one.attached}
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._released = False
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._worker: Worker | None = None
        self._number = 0  # of the batch in the worker
        self._current: Progress | None = None
        self.computing: Computing | None = None
        self.engine: Answer | None = None
        self.is_loaded = False
        self.disk_error = ""  # why the disk does not take what has been computed
        self.counts: Counter[str] = Counter()
        self.busy_s = 0.0
        self.threads = 0

    @property
    def silent_s(self) -> float:
        """Seconds since the worker has shown a sign of life; 0 while there is none to wait for."""
        return self._worker.silent_s if self._worker and self.is_loaded else 0.0

    @property
    def draining(self) -> bool:
        """True once a shutdown has begun."""
        return self._drained.is_set()

    @property
    def waiting_prompts(self) -> int:
        """Number of prompts of requests that are not over."""
        waiting = [*self._queue, *([self._current] if self._current else [])]
        return sum(one.prompts - len(one.recorded) for one in waiting)

    def add(self, progress: Progress) -> None:
        """Queue a request that is on disk."""
        self._queue.append(progress)
        self._wake.set()

    async def cancel(self, progress: Progress) -> None:
        """End a request that is not over; the engine is free within one slice."""
        self._cancelled.add(progress.id)
        if progress is self._current and self._worker:
            self._worker.stop(self._number)
        elif progress in self._queue and not self.disk_error:  # else it ends in its turn
            self._queue.remove(progress)
            with contextlib.suppress(Draining):
                await self._end(progress, CANCELLED)

    async def wait(self, progress: Progress, after: int, limit_s: float | None) -> None:
        """Wait until more prompts than ``after`` are recorded, the request is over, the server's
        connections end, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s), self._watch(progress.id) as changed:
                while progress.failure is None and len(progress.recorded) <= after:
                    await changed.wait()
                    if self._released:
                        return
                    changed.clear()

    @contextlib.asynccontextmanager
    async def _watch(self, request_id: str) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()
        if self._released:
            changed.set()
        watchers = self._watchers.setdefault(request_id, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers and self._watchers.get(request_id) is watchers:
                del self._watchers[request_id]

    def _tell(self, request_id: str) -> None:
        for changed in self._watchers.get(request_id, ()):
            changed.set()

    async def run(self) -> None:
        """Serve until cancelled, or until drained.

        Raises:
            EngineUnusable: the engine does not load.
        """
        with contextlib.suppress(Draining):
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
        self._drained.set()
        self._wake.set()
        if at_once and self._worker:
            self._worker.stop(self._number)

    def release(self) -> None:
        """Let those who wait go: the connections are about to end."""
        self._released = True
        for request_id in self._watchers:
            self._tell(request_id)

    def close(self) -> None:
        """End the worker."""
        if self._worker:
            self._worker.kill()
            self._worker = None

    async def _serve(self, progress: Progress) -> None:
        """Compute a request batch by batch, until it is over or a shutdown begins."""
        try:
            contents = await self._contents(progress)
        except (OSError, ValueError):
            log.warning("the file of an accepted request is gone or damaged")
            await self._end(progress, ENGINE_ERROR, "contents_lost")
            return
        deaths = 0
        while not self.draining:
            missing = [k for k in range(progress.prompts) if k not in progress.recorded]
            failure = self._reason_to_end(progress) if missing else ""
            if failure is not None:
                await self._end(progress, failure)
                return
            await self._replace_dead()  # nothing is begun in vain
            batch = missing[: self.engine.batch if self.engine else 1]
            self._checkpoint.begin(progress.id, batch)
            try:
                answer = await self._compute(progress, batch, [contents[k] for k in batch])
            except WorkerLost:
                deaths += 1
                await self._restart()
                if deaths == MOST_DEATHS:
                    await self._end(progress, ENGINE_ERROR, "worker_lost")
                    return
                continue
            if progress.failure is not None:
                self._ended(progress)
                return
            if answer.kind not in (RESULTS, STOPPED):
                reason = OUT_OF_MEMORY if answer.kind == OUT_OF_MEMORY else "engine_failed"
                log.warning("the engine failed: %s", answer.error or reason)
                await self._end(progress, ENGINE_ERROR, reason)
                if answer.is_last:
                    await self._restart()
                return

    async def _contents(self, progress: Progress) -> list[dict[str, Any]]:
        if self._checkpoint.contents_bytes(progress.id) < SMALL_BYTES:
            return self._checkpoint.contents(progress.id)
        return await asyncio.to_thread(self._checkpoint.contents, progress.id)

    def _reason_to_end(self, progress: Progress) -> str | None:
        if progress.id in self._cancelled:
            return CANCELLED
        return DEADLINE if self._now_s() >= progress.deadline_unix_s else None

    async def _compute(
        self, progress: Progress, batch: list[int], prompts: list[dict[str, Any]]
    ) -> Answer:
        """Return the worker's answer to a batch, which the deadline stops; record its results.

        Raises:
            WorkerLost: it died.
        """
        self.computing = Computing(progress, batch, self._now_s())
        try:
            answer = await self._ask(prompts, progress)
            if answer.kind == RESULTS:
                self.counts["prompts"] += len(batch)
                self.busy_s += answer.seconds
                self.threads = answer.threads
                results = dict(zip(batch, answer.results, strict=True))
                began_s = self.computing.began_unix_s
                await self._store(self._checkpoint.record, progress.id, results, began_s)
        finally:
            self.computing = None
        self._tell(progress.id)
        return answer

    async def _ask(self, prompts: list[dict[str, Any]], progress: Progress) -> Answer:
        worker = self._worker
        if worker is None:
            raise WorkerLost
        self._number += 1
        if progress.id in self._cancelled:  # while the checkpoint was being written
            worker.stop(self._number)
        left_s = max(0.0, progress.deadline_unix_s - self._now_s())
        alarm = asyncio.get_running_loop().call_later(left_s, worker.stop, self._number)
        try:
            batch = Batch(self._number, prompts)
            if self._checkpoint.contents_bytes(progress.id) < SMALL_BYTES:
                worker.send(batch)
            else:
                await asyncio.to_thread(worker.send, batch)
            return await self._answer(worker)
        except OSError as error:
            raise WorkerLost from error
        finally:
            alarm.cancel()

    async def _answer(self, worker: Worker) -> Answer:
        """Return the worker's next answer, waiting on its pipe without a thread.

        Large messages go through threads: one that is larger than the pipe's buffer waits for the
        worker, which may hang in the middle of it.
        """
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(worker.connection.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(worker.connection.fileno())
        try:
            answer: Answer = await asyncio.to_thread(worker.connection.recv)
        except (EOFError, OSError) as error:
            raise WorkerLost from error
        return answer

    async def _restart(self) -> None:
        """Start a worker, again and again until one has loaded its engine.

        Raises:
            EngineUnusable: it does not load.
            Draining: a shutdown has begun meanwhile; there is no batch to wait for.
        """
        self.is_loaded = False
        while True:
            if self._worker:
                self.counts["worker_restarts"] += 1
                log.warning("the worker died and is started again")
                self._worker.kill()
            self._worker = self._start()
            try:
                await self._unless_drained(self._load(self._worker))
            except WorkerLost:
                log.warning("the worker ended while it loaded the engine")
                await self._unless_drained(asyncio.sleep(RESTART_S))
                continue
            return

    async def _load(self, worker: Worker) -> None:
        while not self.is_loaded:
            answer = await self._answer(worker)
            if answer.kind == FAILED:
                raise EngineUnusable(answer.error)
            self.engine, self.threads = answer, answer.threads
            self.is_loaded = answer.kind == LOADED

    async def _unless_drained(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        drained = asyncio.create_task(self._drained.wait())
        try:
            await asyncio.wait({task, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Draining
            task.result()
        finally:
            for one in (task, drained):
                one.cancel()

    async def _store(self, write: Callable[..., None], *args: Any) -> None:
        """Write to the checkpoint, as soon as the disk takes it: nothing accepted is lost.

        Raises:
            Draining: a shutdown has begun, and the disk is still full.
        """
        while True:
            try:
                await asyncio.to_thread(write, *args)
            except OSError as error:
                if not self.disk_error:
                    log.error(
                        "cannot write to %s (%s): free space there; what was accepted waits",
                        self._checkpoint.folder,
                        error.strerror,
                    )
                self.disk_error = error.strerror or "error"
            else:
                self.disk_error = ""
                return
            await self._unless_drained(asyncio.sleep(STORE_S))

    async def _end(self, progress: Progress, failure: str, reason: str = "") -> None:
        await self._store(self._checkpoint.end, progress.id, failure, reason)
        self._ended(progress)

    def _ended(self, progress: Progress) -> None:
        self.counts[f"requests_{progress.failure or 'done'}"] += 1
        if progress.reason:
            self.counts[f"errors_{progress.reason}"] += 1
        self._cancelled.discard(progress.id)
        self._tell(progress.id)

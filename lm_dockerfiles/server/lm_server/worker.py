"""The process that owns the engine. It takes one batch at a time from a pipe and beats while it is
alive; it ends when the front does."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from lm_server.engines import ENGINES, Engine
from lm_server.engines.stopped import Stopped
from lm_server.threads import engine_threads

LOADED: Final = "loaded"
RESULTS: Final = "results"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
OUT_OF_MEMORY: Final = "out_of_memory"
IDLE_S: Final = 0.2  # real seconds between two beats of an idle worker
MOST_OUT_OF_MEMORY: Final = 2  # then the process leaves: memory is in pieces


@dataclass(frozen=True, slots=True)
class Batch:
    """Message to the worker. ``number`` is what a stop refers to."""

    number: int
    prompts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Message of the worker."""

    kind: str  # LOADED, RESULTS, STOPPED, FAILED or OUT_OF_MEMORY
    number: int = 0
    results: tuple[bytes, ...] = ()
    seconds: float = 0.0
    error: str = ""
    batch: int = 1  # LOADED: prompts at most in a batch
    emulated: bool = False  # LOADED
    threads: int = 0


class Worker:
    """The front's end of a worker process."""

    def __init__(self, engine: str, path: Path) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._beat = context.Value("d", time.monotonic(), lock=False)
        self._stop = context.Value("q", 0, lock=False)
        self.process: SpawnProcess = context.Process(
            target=work, args=(theirs, engine, path, self._beat, self._stop), daemon=True
        )
        self.process.start()
        theirs.close()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        beaten_s: float = self._beat.value
        return time.monotonic() - beaten_s

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    def send(self, batch: Batch) -> None:
        self.connection.send(batch)

    def stop(self, number: int) -> None:
        """Stop the batch of this number within one token, step or slice."""
        self._stop.value = number

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def work(theirs: Connection, name: str, path: Path, beaten: Any, stop: Any) -> None:
    """Run the worker until the front is gone."""
    # The front decides when a shutdown ends the work; Ctrl-C and TERM reach the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def beat() -> None:
        beaten.value = time.monotonic()

    engine = ENGINES[name](path)
    engine.load()
    beat()
    threads = engine_threads()
    theirs.send(Answer(LOADED, batch=engine.batch, emulated=engine.emulated, threads=threads))
    out_of_memory = 0
    try:
        while out_of_memory < MOST_OUT_OF_MEMORY:
            beat()
            if not theirs.poll(IDLE_S):
                continue
            batch: Batch = theirs.recv()
            answer = _compute(engine, batch, stop, beat)
            out_of_memory += answer.kind == OUT_OF_MEMORY
            theirs.send(answer)
    except (EOFError, BrokenPipeError):
        os._exit(0)


def _compute(engine: Engine, batch: Batch, stop: Any, beat: Any) -> Answer:
    began_s = time.monotonic()
    try:
        results = engine.run(batch.prompts, lambda: bool(stop.value == batch.number), beat)
    except Stopped:
        return Answer(STOPPED, batch.number)
    except MemoryError:
        return Answer(OUT_OF_MEMORY, batch.number, error="out of memory")
    except Exception as error:  # an engine's text may quote the prompt: the kind alone is told
        return Answer(FAILED, batch.number, error=type(error).__name__)
    took_s = time.monotonic() - began_s
    return Answer(RESULTS, batch.number, tuple(results), took_s, threads=engine_threads())

"""The worker process: it owns the engine, takes one batch at a time and beats while it is alive.

An engine may have, beside what its protocol asks for: ``stop_s``, the seconds that its process is
to stay after a TERM; and ``phases``, the seconds of each part of ``load`` by name.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from lm_server.engines import ENGINES, Engine
from lm_server.engines.stopped import Stopped
from lm_server.threads import engine_threads
from lm_server.worker import (
    FAILED,
    LOADED,
    LOADING,
    OUT_OF_MEMORY,
    RESULTS,
    STOPPED,
    Answer,
    Batch,
    Shared,
)

IDLE_S: Final = 0.2  # real seconds between two beats of an idle worker
MOST_OUT_OF_MEMORY: Final = 2  # then the process leaves: memory is in pieces


def main() -> None:
    """Serve the front that has started this process, until it is gone."""
    # The front decides when a shutdown ends the work; Ctrl-C and TERM reach the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    name, path, pipe, memory = sys.argv[1:]
    threading.Thread(target=_leave_with_the_front, daemon=True).start()
    try:
        work(Connection(int(pipe)), name, Path(path), Shared(int(memory)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)


def work(front: Connection, name: str, path: Path, shared: Shared) -> None:
    """Load the engine and compute batches until it has been out of memory twice.

    Raises:
        EOFError, BrokenPipeError, ConnectionResetError: the front is gone.
    """
    try:
        engine = _load(front, name, path, shared)
    except Exception as error:  # there are no prompts yet that its text could quote
        front.send(Answer(FAILED, error=f"{type(error).__name__}: {error}"))
        return
    out_of_memory = 0
    while out_of_memory < MOST_OUT_OF_MEMORY:
        shared.beat()
        if not front.poll(IDLE_S):
            continue
        batch: Batch = front.recv()
        answer = _compute(engine, batch, shared)
        out_of_memory += answer.kind == OUT_OF_MEMORY
        front.send(replace(answer, is_last=out_of_memory == MOST_OUT_OF_MEMORY))


def _load(front: Connection, name: str, path: Path, shared: Shared) -> Engine:
    began_s = shared.beaten_s  # the front beats once before it starts this process
    engine = ENGINES[name](path)
    description: dict[str, Any] = {
        "batch": engine.batch,
        "emulated": engine.emulated,
        "stop_s": getattr(engine, "stop_s", 0.0),
    }
    front.send(Answer(LOADING, **description))
    imported_s = time.monotonic()
    engine.load()
    phases = {"import": imported_s - began_s, "weights": time.monotonic() - imported_s}
    phases |= {"warm_up": 0.0, **getattr(engine, "phases", {})}
    shared.beat()
    front.send(Answer(LOADED, threads=engine_threads(), phases=phases, **description))
    return engine


def _compute(engine: Engine, batch: Batch, shared: Shared) -> Answer:
    began_s = time.monotonic()
    try:
        results = engine.run(batch.prompts, lambda: shared.stop == batch.number, shared.beat)
    except Stopped:
        return Answer(STOPPED, batch.number)
    except MemoryError:
        return Answer(OUT_OF_MEMORY, batch.number)
    except Exception as error:  # an engine's text may quote the prompt: the kind alone is told
        return Answer(FAILED, batch.number, error=type(error).__name__)
    took_s = time.monotonic() - began_s
    return Answer(RESULTS, batch.number, tuple(results), took_s, threads=engine_threads())


def _leave_with_the_front() -> None:
    """Wait for the end of standard input, also while the engine computes, and end the process."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    main()

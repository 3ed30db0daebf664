"""Emulated engine: takes the time that a profile gives, and computes nothing."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lm_server.engines.emulated_times import PNG, read_times
from lm_server.engines.gpu_share import STALE_S, GpuShare
from lm_server.engines.stopped import Stopped

SLICE_S: Final = 0.02  # real seconds between two looks at ``stopped`` and the other engines
SIDE: Final = 8  # pixels of a result
WORDS: Final = [
    "node", "model", "queue", "river", "garden", "window", "letter", "engine", "signal",
    "answer", "question", "summer", "winter", "morning", "evening", "city", "waits", "runs",
    "turns", "holds", "gives", "takes", "slowly", "often", "soon", "again", "under",
    "over", "before", "after",
]  # fmt: skip


class EmulatedEngine:
    """An engine that sleeps, and shares its emulated GPUs with the other engines of its node.

    Args:
        path: file of times.

    Raises:
        ValueError: it is not one.
    """

    emulated = True

    def __init__(self, path: Path) -> None:
        self._path, self._read_ns = path, path.stat().st_mtime_ns
        self._times = read_times(path)
        self._share = GpuShare(self._times.gpus, self._times.switch_loss)
        self.batch = len(self._times.batch_factors)
        self.stop_s = self._times.stop_s / self._times.time_scale

    def load(self) -> None:
        """Sleep for the time of a start, which may count from the pod's creation."""
        self._share.open()
        left_s = self._times.start_s / self._times.time_scale
        if self._times.created_unix_s is not None:
            age_s = max(0.0, time.time() - self._times.created_unix_s)  # clocks may jump
            left_s = max(0.0, left_s - age_s)
        time.sleep(left_s)

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        """Sleep for the time of a batch, and return results that follow from the seeds."""
        self._read_again()
        left_s = self._times.batch_s(prompts)  # of undisturbed service
        try:
            while left_s > 0:
                beat()
                if stopped():
                    raise Stopped
                rate = self._share.serve()
                began_s = time.monotonic()
                time.sleep(min(left_s / rate, SLICE_S))
                # The others hold an engine that was silent for longer for dead.
                left_s -= rate * min(time.monotonic() - began_s, STALE_S)
        finally:
            self._share.rest()
        if self._times.is_image:
            return [_png(one["seed"]) for one in prompts]
        return [_text(one["seed"], one["output_tokens"]) for one in prompts]

    def _read_again(self) -> None:
        """Take up other times, which a change of the pod's cores brings. A file that is just being
        written, or is gone, changes nothing yet."""
        with contextlib.suppress(OSError, ValueError):
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._read_ns:
                self._times, self._read_ns = read_times(self._path), changed_ns


def _text(seed: int, words: int) -> bytes:
    sentence = " ".join(random.Random(seed).choices(WORDS, k=words))  # noqa: S311
    return f"{sentence.capitalize()}.".encode()


def _png(seed: int) -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    colours = random.Random(seed)  # noqa: S311
    rows = b"".join(b"\0" + colours.randbytes(3 * SIDE) for _ in range(SIDE))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )

"""Emulated engine: takes the time that a profile gives, and computes nothing.

Each server has its GPU to itself: engines of one node do not share an emulated GPU yet.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lm_server.engines.stopped import Stopped

SLICE_S: Final = 0.02  # real seconds between two looks at ``stopped``


class EmulatedEngine:
    """An engine that sleeps.

    Args:
        path: JSON with ``seconds`` per prompt, ``batch_factors`` (time of a batch of k over that
            of one), ``start_s``, ``time_scale`` (emulated seconds per real one) and ``output``
            ("text" or "image").
    """

    emulated = True

    def __init__(self, path: Path) -> None:
        times = json.loads(path.read_text())
        self._scale = float(times.get("time_scale", 1.0))
        self._seconds = float(times["seconds"])
        self._factors = [float(one) for one in times.get("batch_factors", [1.0])]
        self._start_s = float(times.get("start_s", 0.0))
        self._image = times.get("output", "text") == "image"
        self.batch = len(self._factors)

    def load(self) -> None:
        time.sleep(self._start_s / self._scale)

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        end_s = time.monotonic() + self._seconds * self._factors[len(prompts) - 1] / self._scale
        while True:
            beat()
            if stopped():
                raise Stopped
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(left_s, SLICE_S))
        return [_png(one["seed"]) if self._image else _text(one["seed"]) for one in prompts]


def _text(seed: int) -> bytes:
    return f"emulated result of seed {seed}".encode()


def _png(seed: int) -> bytes:
    """Return an image of one pixel, whose colour follows from the seed."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + (seed % 2**24).to_bytes(3, "big"))
    parts = ((b"IHDR", header), (b"IDAT", pixel), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )

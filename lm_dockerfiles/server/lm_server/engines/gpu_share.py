"""Sharing of emulated GPUs by the engines of a node, by the twin's rule of time-slicing.

There is no arbiter: each physical GPU has a file that all engines on it map into memory. A slot of
it belongs to an engine for as long as its process lives (a lock), and holds the monotonic time of
its last slice while it serves, else 0. Each engine counts the others' slots before each slice.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SLOTS: Final = 64  # engines on one GPU
SLOT_BYTES: Final = 8
STALE_S: Final = 0.25  # an engine that is silent for longer does not serve: it was killed


class GpuShare:
    """An engine's place on its physical GPUs.

    Args:
        gpus: accounting files, one for each physical GPU; a missing one is made.
        switch_loss: share of a GPU's time that is lost to switching while engines share it.
    """

    def __init__(self, gpus: Iterable[Path], switch_loss: float) -> None:
        self._paths = list(dict.fromkeys(path.resolve() for path in gpus))
        self._switch_loss = switch_loss
        self._gpus: list[memoryview[float]] = []
        self._slots: list[int] = []

    def open(self) -> None:
        """Take a slot on each GPU.

        Raises:
            OSError: a file cannot be made or has no free slot.
        """
        for path in self._paths:
            # Kept open: closing it would give up the lock.
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if os.fstat(file).st_size < SLOTS * SLOT_BYTES:
                os.ftruncate(file, SLOTS * SLOT_BYTES)
            slot = _claim(file, path)
            beats = memoryview(mmap.mmap(file, SLOTS * SLOT_BYTES)).cast("d")
            beats[slot] = 0.0  # of a former owner
            self._gpus.append(beats)
            self._slots.append(slot)

    def serve(self) -> float:
        """Tell the others that a slice begins; return its rate.

        It is 1 if no other engine serves on any of the GPUs, else ``(1 - switch_loss) / m``, *m*
        being the largest number of serving engines on one of them.
        """
        now_s = time.monotonic()
        for beats, slot in zip(self._gpus, self._slots, strict=True):
            beats[slot] = now_s
        # Others may have beaten since now_s; a beat far ahead is from before a reboot.
        serving = [sum(abs(now_s - beat) < STALE_S for beat in beats) for beats in self._gpus]
        most = max(serving, default=1)
        return 1.0 if most <= 1 else (1.0 - self._switch_loss) / most

    def rest(self) -> None:
        """Tell the others that this engine does not serve any more."""
        for beats, slot in zip(self._gpus, self._slots, strict=True):
            beats[slot] = 0.0


def _claim(file: int, path: Path) -> int:
    """Lock and return the first free slot; the lock ends with the process."""
    for slot in range(SLOTS):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, SLOT_BYTES, slot * SLOT_BYTES)
        except (BlockingIOError, PermissionError):
            continue
        return slot
    raise OSError(f"{path}: {SLOTS} engines are on this GPU: end one, or use another file")

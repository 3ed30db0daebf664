"""The measuring: servers on ever more cores, point after point, what is done kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from controller.profiling.points import Life, Measured, Notebook, Point
from controller.profiling.server import LmServer
from controller.testbed.contents import prompts_of

BUSY: Final = 0.05  # share of waiting beyond which a time is not the hardware's

Start = Callable[[Path, list[int]], LmServer]


def measure(
    notebook: Notebook,
    points: list[Point],
    modality: str,
    start: Start,
    tell: Callable[[str], None],
) -> None:
    """Measure the points that the notebook lacks, cores by cores; it is saved after each.

    Args:
        start: builds a server in a folder, on these cores.
        tell: takes a line of progress.
    """
    missing = notebook.measurement.lacks(points)
    progress = _Progress(len(points), len(points) - len(missing), tell)
    allowed = sorted(os.sched_getaffinity(0))
    for cores in sorted({one.cores for one in points}):
        group = [one for one in missing if one.cores == cores]
        if not group and cores in notebook.measurement.alive_on():
            continue
        with TemporaryDirectory(prefix="edgelm-profile-") as folder:
            server = start(Path(folder), allowed[:cores])
            try:
                _measure_on(notebook, cores, group, modality, server, progress)
            finally:
                server.kill()


def _measure_on(
    notebook: Notebook,
    cores: int,
    points: Sequence[Point],
    modality: str,
    server: LmServer,
    progress: _Progress,
) -> None:
    found = notebook.measurement
    progress.tell(f"cores {cores}: starting the server")
    start_s = server.start()
    found.emulated = server.is_emulated()
    for point in points:
        found.points.append(_measure_point(point, modality, server, found.setup.repeats))
        notebook.save()
        progress.done(found.points[-1])
    phases_s, peak_gb = server.phases_s(), server.peak_ram_gb()
    found.lives.append(
        Life(
            cores=cores,
            start_s=start_s,
            stop_s=server.stop(),
            phases_s=phases_s,
            peak_ram_gb=peak_gb,
        )
    )
    notebook.save()


def _measure_point(point: Point, modality: str, server: LmServer, repeats: int) -> Measured:
    """Return the times of ``repeats`` requests, after one that does not count."""
    seconds, batches, before = [], 0, (0, 0)
    for k in range(repeats + 1):
        if k == 1:
            before = server.waiting()
        prompts = prompts_of(modality, k, point.prompts, point.columns())
        took_s, batches = server.serve(f"{time.time_ns()}", prompts)
        if k > 0:
            seconds.append(took_s)
    ran, waited = (now - then for now, then in zip(server.waiting(), before, strict=True))
    return Measured(
        cores=point.cores,
        prompts=point.prompts,
        size=point.size,
        seconds=seconds,
        batches=batches,
        waited=round(max(0, waited) / (ran + waited), 4) if ran + waited > 0 else None,
    )


class _Progress:
    def __init__(self, total: int, done: int, tell: Callable[[str], None]) -> None:
        self._total, self._before, self._done, self.tell = total, done, done, tell
        self._began_s = time.monotonic()
        if done:
            tell(f"{done} of {total} points are measured already")

    def done(self, one: Measured) -> None:
        self._done += 1
        each_s = (time.monotonic() - self._began_s) / (self._done - self._before)
        left_s = each_s * (self._total - self._done)
        self.tell(
            f"[{self._done}/{self._total}] cores {one.cores}, prompts {one.prompts}, size "
            f"{'/'.join(f'{amount:g}' for amount in one.size)}: {median(one.seconds):.4g} s; "
            f"about {left_s:.0f} s left"
        )
        if (one.waited or 0.0) > BUSY:
            self.tell(
                f"  the machine was busy: threads waited for a core {one.waited:.0%} of the time, "
                "so this takes longer than on an idle one"
            )

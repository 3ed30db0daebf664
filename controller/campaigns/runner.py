"""Runs a grid: what is finished is kept, the rest is made by a pool of processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.campaigns.grid import Cell, Grid
from controller.campaigns.manifest import Manifest, joined
from controller.campaigns.pool import BUSY, FAILED, STORAGE, Engine, Pool, Reply, Task
from controller.campaigns.progress import Progress
from controller.campaigns.watch import Advance
from controller.domain.errors import Permanent
from controller.results import folder
from controller.results.folder import DONE

SAVE_EVERY_S: Final = 2.0
WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How a campaign stands: errors by run id, and how many runs are done."""

    total: int
    done: int
    made: int  # by this process, now
    errors: Mapping[str, str]

    @property
    def complete(self) -> bool:
        return self.done == self.total


def run_grid(grid: Grid, root: Path, engine: Engine, jobs: int, progress: Progress) -> Tally:
    """Make every run of ``grid`` that ``root`` lacks; those that failed before are tried again.

    A kill at any moment loses at most the runs in flight. KeyboardInterrupt passes through when the
    state is saved.

    Raises:
        InputError: ``root`` cannot take this campaign.
        Permanent: the disk is full, or ``root`` cannot be written.
    """
    try:
        with joined(root, grid) as manifest, progress:
            return _Run(grid, root, manifest, progress).finish(engine, jobs)
    except OSError as error:
        if error.errno in folder.STORAGE_ERRORS:
            raise _full(root, str(error)) from error
        raise Permanent(f"{root}: cannot be written: {error}") from error


class _Run:
    """One process's work on a grid."""

    def __init__(self, grid: Grid, root: Path, manifest: Manifest, progress: Progress) -> None:
        self._root, self._manifest, self._progress = root, manifest, progress
        states = manifest.states()
        self._cells = {cell.run_id: cell for cell in grid.cells}
        self._waiting = deque(
            sorted((c for c in grid.cells if states[c.run_id] != DONE), key=_turn)
        )
        self._errors: dict[str, str] = {}
        self._done = len(grid.cells) - len(self._waiting)
        self._made = 0
        self._saved_s = time.monotonic()

    def finish(self, engine: Engine, jobs: int) -> Tally:
        size = min(jobs, len(self._waiting))
        self._progress.begin(self._done, [cell.label for cell in self._waiting], size)
        try:
            with Pool(self._root, engine, size, self) as workers:
                while self._waiting or not workers.idle:
                    while self._waiting and workers.free:
                        workers.begin(_task(self._waiting.popleft()))
                    for reply in workers.replies(WAIT_S):
                        self._take(reply)
                    self._save_now_and_then()
        finally:
            self._manifest.save()
        return Tally(len(self._cells), self._done, self._made, self._errors)

    def confirm(self, text: str) -> bool:
        """As Progress: a worker asks."""
        return self._progress.confirm(text)

    def advanced(self, run_id: str, advance: Advance) -> None:
        """As Progress: a worker tells."""
        self._progress.advanced(self._cells[run_id].title(), f"{advance}")

    def _take(self, reply: Reply) -> None:
        cell = self._cells[reply.run_id]
        if reply.state == BUSY:
            self._waiting.append(cell)
            return
        if reply.state == STORAGE:
            raise _full(self._root, reply.error)
        failures = self._root / "failures"
        if reply.state == FAILED and not self._is_there(cell):
            self._errors[reply.run_id] = reply.error
            self._manifest.failed(reply.run_id, reply.error)
            failures.mkdir(exist_ok=True)
            (failures / f"{reply.run_id}.txt").write_text(reply.trace or reply.error)
        else:
            self._done += 1
            self._made += reply.made
            self._manifest.succeeded(reply.run_id)
            (failures / f"{reply.run_id}.txt").unlink(missing_ok=True)
        error = self._errors.get(cell.run_id, "")
        wall_s = reply.wall_s if reply.made else 0.0
        self._progress.ended(cell.label, cell.title(), wall_s, error)

    def _is_there(self, cell: Cell) -> bool:
        """A worker may die between finishing a run and saying so."""
        return folder.is_complete(folder.run_folder(self._root, cell.run_id))

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self._manifest.save()
            self._saved_s = time.monotonic()


def _turn(cell: Cell) -> tuple[int, bool]:
    """Seed by seed, so that what is there can be compared in pairs at any time; agents first, so
    that no long run is left over at the end."""
    return cell.experiment.seed, cell.experiment.reasoner is None


def _task(cell: Cell) -> Task:
    return Task(cell.run_id, cell.experiment.canonical_json())


def _full(root: Path, error: str) -> Permanent:
    return Permanent(
        f"{root}: cannot be written, the disk is full or a limit is reached ({error}); nothing "
        "half-written counts: make room and run the same command again, finished runs are kept"
    )

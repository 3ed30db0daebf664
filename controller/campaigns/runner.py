"""The running of a grid: finished runs are kept, the others are made by a pool of processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.campaigns.claims import LOCKS, Claims
from controller.campaigns.code_digest import code_digest
from controller.campaigns.grid import Cell, Grid
from controller.campaigns.pool import BUSY, FAILED, STORAGE, Ended, Engine, Listener, Pool, Task
from controller.campaigns.progress import Progress
from controller.campaigns.states import States, joined
from controller.campaigns.watch import Advance
from controller.domain.errors import Permanent
from controller.results.completeness import code_of, is_complete
from controller.results.folder import DONE, STORAGE_ERRORS, failure_path, run_folder

SAVE_EVERY_S: Final = 2.0
WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the runs that were asked for, and errors by run id."""

    total: int
    done: int
    made: int  # by this process, now
    errors: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """True if every run is done."""
        return self.done == self.total


def run_grid(
    grid: Grid,
    root: Path,
    engine: Engine,
    jobs: int,
    progress: Progress,
    *,
    again: bool = False,
    claims: Claims = LOCKS,
    only: Collection[str] | None = None,
) -> Tally:
    """Make every run of ``grid`` that ``root`` lacks; those that failed before are tried again.

    Finished runs of other code are kept and named, or with ``again`` replaced. ``claims`` decide
    between processes on one grid, so that each run is made by one of them. ``only``: ids of the
    runs to make; the others count in campaign.json, not in the tally.

    A kill at any moment loses at most the runs in flight. KeyboardInterrupt passes through when the
    state is saved.

    Raises:
        InputError: ``root`` cannot take this campaign.
        Permanent: the disk is full, or ``root`` cannot be written.
    """
    try:
        with joined(root, grid, claims) as states, progress:
            chosen = [cell for cell in grid.cells if only is None or cell.run_id in only]
            work = _GridWork(chosen, root, states, progress, claims, again=again)
            return work.finish(engine, jobs)
    except OSError as error:
        if error.errno in STORAGE_ERRORS:
            raise _full(root, str(error)) from error
        raise Permanent(f"{root}: cannot be written: {error}") from error


class _GridWork:
    """One process's work on runs of a grid."""

    def __init__(
        self,
        cells: Sequence[Cell],
        root: Path,
        states: States,
        progress: Progress,
        claims: Claims,
        *,
        again: bool,
    ) -> None:
        self._root, self._states, self._progress = root, states, progress
        self._claims, self._again = claims, again
        state = states.by_run()
        self._cells = {cell.run_id: cell for cell in cells}
        finished = [cell for cell in cells if state[cell.run_id] == DONE]
        self._outdated = [cell for cell in finished if _is_outdated(root, cell)]
        waiting = [cell for cell in cells if state[cell.run_id] != DONE]
        waiting += self._outdated if again else []
        self._waiting = deque(sorted(waiting, key=turn))
        self._elsewhere: list[tuple[float, Cell]] = []  # made by others; when to ask again
        self._waits = False
        self._errors: dict[str, str] = {}
        self._done = len(cells) - len(self._waiting)
        self._made = 0
        self._saved_s = time.monotonic()

    def finish(self, engine: Engine, jobs: int) -> Tally:
        """Make every run that is not done, ``jobs`` at once."""
        size = min(jobs, len(self._waiting))
        listener = Listener(self._progress.confirm, self._advanced, self._progress.note)
        self._progress.begin(self._done, [cell.label for cell in self._waiting], size)
        for run_id, problem in self._states.damaged.items():
            if run_id in self._cells:
                self._progress.note(f"runs/{run_id} is made again: {problem}")
        if self._outdated:
            self._progress.note(_other_code(self._outdated, again=self._again))
        try:
            with Pool(self._root, engine, size, listener, self._claims) as workers:
                while self._waiting or self._elsewhere or not workers.idle:
                    self._recall()
                    while self._waiting and workers.free:
                        workers.begin(_task(self._waiting.popleft(), again=self._again))
                    for ended in workers.ended(self._claims.poll_s if self._elsewhere else WAIT_S):
                        self._take(ended)
                    self._save_now_and_then()
        finally:
            self._states.save()
        return Tally(len(self._cells), self._done, self._made, self._errors)

    def _recall(self) -> None:
        """Ask for runs that others made a while ago, once nothing else is left to begin."""
        if self._waiting or not self._elsewhere:
            return
        if not self._waits:
            self._waits = True
            count = len(self._elsewhere)
            runs = "1 run that another process makes" if count == 1 else f"{count} runs of others"
            self._progress.note(f"waiting for {runs}")
        now_s = time.monotonic()
        self._waiting.extend(cell for at_s, cell in self._elsewhere if at_s <= now_s)
        self._elsewhere = [(at_s, cell) for at_s, cell in self._elsewhere if at_s > now_s]

    def _advanced(self, run_id: str, advance: Advance) -> None:
        self._progress.advanced(self._cells[run_id].title(), f"{advance}")

    def _take(self, ended: Ended) -> None:
        cell = self._cells[ended.run_id]
        if ended.state == BUSY:
            self._elsewhere.append((time.monotonic() + self._claims.poll_s, cell))
            return
        if ended.state == STORAGE:
            raise _full(self._root, ended.error)
        failure = failure_path(self._root, ended.run_id)
        if ended.state == FAILED and not self._is_there(cell):
            self._errors[ended.run_id] = ended.error
            self._states.failed(ended.run_id, ended.error)
            failure.parent.mkdir(exist_ok=True)
            failure.write_text(ended.trace or ended.error)
        else:
            self._done += 1
            self._made += ended.made
            self._states.succeeded(ended.run_id)
            failure.unlink(missing_ok=True)
        error = self._errors.get(cell.run_id, "")
        wall_s = ended.wall_s if ended.made else 0.0
        self._progress.ended(cell.label, cell.title(), wall_s, error)

    def _is_there(self, cell: Cell) -> bool:
        """Return True if the run is finished: a worker may die just before its last message."""
        return is_complete(run_folder(self._root, cell.run_id))

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self._states.save()
            self._saved_s = time.monotonic()


def turn(cell: Cell) -> tuple[int, bool]:
    """Return a run's place in the queue: seed by seed, so that the finished runs can be compared in
    pairs at any time; agents a seed ahead, so that no long run is left over at the end."""
    has_agents = cell.experiment.reasoner is not None
    return cell.experiment.seed - has_agents, not has_agents


def _task(cell: Cell, *, again: bool) -> Task:
    code = code_digest(cell.experiment.strategy) if again else ""
    return Task(cell.run_id, cell.experiment.canonical_json(), code)


def _is_outdated(root: Path, cell: Cell) -> bool:
    """Return True if other code than this has made a finished run. Runs of an edgelm that did not
    write the digest count as current: nobody knows."""
    made_by = code_of(run_folder(root, cell.run_id))
    return made_by not in ("", code_digest(cell.experiment.strategy))


def _other_code(cells: Sequence[Cell], *, again: bool) -> str:
    strategies = ", ".join(dict.fromkeys(cell.experiment.strategy for cell in cells))
    runs = f"{len(cells)} finished {'run' if len(cells) == 1 else 'runs'} ({strategies})"
    fate = "made again" if again else "kept; --again makes them again"
    return f"{runs}: made by other code than this, {fate}"


def _full(root: Path, error: str) -> Permanent:
    return Permanent(
        f"{root}: cannot be written, the disk is full or a limit is reached ({error}); nothing "
        "half-written counts: make room and run the same command again, finished runs are kept"
    )

"""The states of a grid's runs in a campaign's folder, saved to campaign.json. The run folders say
what is finished: a campaign.json that a kill has left behind is never believed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from controller.campaigns.claims import LOCKS, Claims, forget_claim, locked
from controller.campaigns.experiment import MODEL_VERSION
from controller.campaigns.grid import Grid
from controller.campaigns.kept import keep_grid
from controller.domain.errors import InputError
from controller.results.completeness import problem_of
from controller.results.folder import (
    DONE,
    FAILED,
    FORMAT_VERSION,
    PENDING,
    run_folder,
    runs_folder,
)
from controller.results.manifest import (
    MANIFEST,
    Manifest,
    RunEntry,
    read_manifest,
    write_manifest,
)

# May be there before campaign.json is.
OURS: Final = frozenset({"runs", "experiments", "traces", "failures"})


class States:
    """The state of every run of a grid, by the folders on disk and by what has failed."""

    def __init__(self, root: Path, grid: Grid, claims: Claims) -> None:
        self._root, self._grid, self._claims = root, grid, claims
        self._done: set[str] = set()
        self._errors: dict[str, str] = {}  # of runs that this process has tried
        self.damaged: dict[str, str] = {}  # run id -> why its folder does not count

    def by_run(self) -> dict[str, str]:
        """Return run id -> state."""
        return {entry.id: entry.state for entry in self._entries(self._former_errors())}

    def failed(self, run_id: str, error: str) -> None:
        """Record an error; the next campaign tries the run again."""
        self._errors[run_id] = error

    def succeeded(self, run_id: str) -> None:
        """Record that the run is finished, here or by another process."""
        self._errors.pop(run_id, None)
        self._done.add(run_id)

    def save(self) -> None:
        """Write campaign.json, keeping the errors that other processes have met."""
        with locked(self._root / ".lock"):
            self.write()

    def write(self) -> None:
        """Write campaign.json as :meth:`save`, for a caller that has the campaign's lock."""
        campaign = self._grid.campaign
        manifest = Manifest(
            model=MODEL_VERSION,
            name=campaign.name,
            summary=campaign.summary,
            campaign=campaign.model_dump(mode="json"),
            runs=self._entries(self._former_errors()),
        )
        write_manifest(self._root, manifest)

    def _entries(self, former: Mapping[str, str]) -> tuple[RunEntry, ...]:
        entries = []
        for cell in self._grid.cells:
            state, error = self._state(cell.run_id, former)
            entry = {"id": cell.run_id, "state": state, "error": error or None, **cell.axes()}
            entries.append(RunEntry.model_validate(entry))
        return tuple(entries)

    def _state(self, run_id: str, former: Mapping[str, str]) -> tuple[str, str]:
        if run_id in self._done:
            return DONE, ""
        folder = run_folder(self._root, run_id)
        problem = problem_of(folder)
        if not problem:
            self._done.add(run_id)
            forget_claim(self._claims, self._root, run_id)
            return DONE, ""
        if folder.exists():
            self.damaged[run_id] = problem
        error = self._errors.get(run_id) or former.get(run_id, "")
        return (FAILED, error) if error else (PENDING, "")

    def _former_errors(self) -> dict[str, str]:
        try:
            return {run.id: run.error for run in read_manifest(self._root).runs if run.error}
        except InputError:
            return {}


@contextlib.contextmanager
def joined(
    root: Path,
    grid: Grid,
    claims: Claims = LOCKS,
) -> Iterator[States]:
    """Open or create a campaign's folder. Processes on the same grid share it.

    Raises:
        InputError: the folder is something else, of another version, or another process is running
            another grid in it.
    """
    _check_folder(root)
    runs_folder(root).mkdir(parents=True, exist_ok=True)
    states = States(root, grid, claims)
    descriptor = os.open(root / ".active", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with locked(root / ".lock"):
            if not _is_of(root, grid):
                _make_sure_alone(descriptor, root)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            keep_grid(root, grid)
            # Before the lock ends: who comes next must find the same grid in the folder.
            states.write()
        yield states
    finally:
        os.close(descriptor)


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(str(root), "is a file", field="--out", remedy="give a folder")
    if (root / MANIFEST).exists():
        manifest = read_manifest(root)
        _check_version(root, "format", manifest.format, FORMAT_VERSION)
        _check_version(root, "model", manifest.model, MODEL_VERSION)
        return
    strangers = [path.name for path in root.glob("*") if path.name not in OURS]
    strangers = [name for name in strangers if not name.startswith(".")]
    if strangers:
        raise InputError(
            str(root), "is neither empty nor a campaign's folder", field="--out",
            remedy=f"it has {', '.join(sorted(strangers)[:3])}; give a new folder",
        )  # fmt: skip


def _check_version(root: Path, field: str, theirs: int | None, ours: int) -> None:
    """Raise unless runs of this program may stand beside those in the folder."""
    if theirs != ours:
        raise InputError(
            str(root / MANIFEST),
            f"was written by another version of edgelm; this one writes {field} {ours}",
            field=field,
            value=theirs,
            remedy="give another --out; `edgelm report` still reads this folder",
        )


def _is_of(root: Path, grid: Grid) -> bool:
    if not (root / MANIFEST).exists():
        return False
    return [run.id for run in read_manifest(root).runs] == [cell.run_id for cell in grid.cells]


def _make_sure_alone(descriptor: int, root: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            str(root),
            "another process is running another grid in this folder",
            remedy="wait for it, or give another --out",
        ) from error

"""campaign.json: the grid as resolved, with every run's id and state. What is finished is read from
the run folders, so a manifest that a kill has left behind is never believed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.campaigns.experiment import MODEL_VERSION
from controller.campaigns.grid import Grid
from controller.domain.errors import InputError
from controller.results import folder
from controller.results.folder import DONE, FAILED, FORMAT_VERSION, PENDING


def trace_path(root: Path, sha256: str) -> Path:
    """The campaign's own copy of a trace, so that its runs can be made again anywhere."""
    return root / "traces" / f"{sha256}.csv"


def read_manifest(root: Path) -> dict[str, Any]:
    """campaign.json.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = root / "campaign.json"
    try:
        manifest = json.loads(path.read_bytes())
        if not isinstance(manifest, dict) or "runs" not in manifest:
            raise ValueError("no list of runs")
    except FileNotFoundError as error:
        raise InputError(
            str(root), "is no campaign folder", remedy="give a folder that `edgelm run` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            str(path), f"cannot be read: {error}", remedy="remove it; finished runs are kept"
        ) from error
    _check_version(path, manifest, "format", FORMAT_VERSION)
    _check_version(path, manifest, "model", MODEL_VERSION)
    return manifest


class Manifest:
    """The campaign.json of a grid that is being run."""

    def __init__(self, root: Path, grid: Grid) -> None:
        self._root, self._grid = root, grid
        self._done: set[str] = set()
        self._errors: dict[str, str] = {}  # of runs that this process has tried

    def states(self) -> dict[str, str]:
        """State of every run, by the folders on disk and what failed."""
        return {run["id"]: run["state"] for run in self._entries(self._former_errors())}

    def failed(self, run_id: str, error: str) -> None:
        self._errors[run_id] = error

    def succeeded(self, run_id: str) -> None:
        self._errors.pop(run_id, None)
        self._done.add(run_id)

    def save(self) -> None:
        """Write it, keeping what other processes have found to fail."""
        with folder.locked(self._root / ".lock"):
            content = {**self._head(), "runs": self._entries(self._former_errors())}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            for left in self._root.glob(".campaign.json.*.tmp"):
                left.unlink(missing_ok=True)  # a killed process's: who writes holds the lock
            folder.write_atomically(self._root / "campaign.json", text.encode())

    def _head(self) -> dict[str, Any]:
        campaign = self._grid.campaign
        return {
            "format": FORMAT_VERSION,
            "model": MODEL_VERSION,
            "name": campaign.name,
            "summary": campaign.summary,
            "campaign": campaign.model_dump(mode="json"),
        }

    def _entries(self, former: Mapping[str, str]) -> list[dict[str, Any]]:
        entries = []
        for cell in self._grid.cells:
            state, error = self._state(cell.run_id, former)
            entry = {"id": cell.run_id, "state": state, **cell.axes()}
            entries.append({**entry, "error": error} if error else entry)
        return entries

    def _state(self, run_id: str, former: Mapping[str, str]) -> tuple[str, str]:
        if run_id in self._done or folder.is_complete(folder.run_folder(self._root, run_id)):
            self._done.add(run_id)
            return DONE, ""
        error = self._errors.get(run_id) or former.get(run_id, "")
        return (FAILED, error) if error else (PENDING, "")

    def _former_errors(self) -> dict[str, str]:
        try:
            runs = json.loads((self._root / "campaign.json").read_bytes())["runs"]
            return {run["id"]: run["error"] for run in runs if run.get("error")}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}


@contextlib.contextmanager
def joined(root: Path, grid: Grid) -> Iterator[Manifest]:
    """Open or create a campaign's folder. Processes on the same grid share it.

    Raises:
        InputError: the folder is something else, of another version, or another process is running
            another grid in it.
    """
    _check_folder(root)
    folder.runs_folder(root).mkdir(parents=True, exist_ok=True)
    manifest = Manifest(root, grid)
    descriptor = os.open(root / ".active", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with folder.locked(root / ".lock"):
            if not _is_of(root, grid):
                _make_sure_alone(descriptor, root)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _keep_traces(root, grid)
        manifest.save()
        yield manifest
    finally:
        os.close(descriptor)


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(str(root), "is a file", field="--out", remedy="give a folder")
    if (root / "campaign.json").exists():
        read_manifest(root)
        return
    strangers = [p.name for p in root.glob("*") if p.name not in ("runs", "traces", "failures")]
    strangers = [name for name in strangers if not name.startswith(".")]
    if strangers:
        raise InputError(
            str(root), "is neither empty nor a campaign's folder", field="--out",
            remedy=f"it has {', '.join(sorted(strangers)[:3])}; give a new folder",
        )  # fmt: skip


def _is_of(root: Path, grid: Grid) -> bool:
    if not (root / "campaign.json").exists():
        return False
    runs = read_manifest(root)["runs"]
    return [run.get("id") for run in runs] == [cell.run_id for cell in grid.cells]


def _make_sure_alone(descriptor: int, root: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            str(root),
            "another process is running another grid in this folder",
            remedy="wait for it, or give another --out",
        ) from error


def _keep_traces(root: Path, grid: Grid) -> None:
    for sha256, source in grid.traces.items():
        path = trace_path(root, sha256)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".tmp")
            shutil.copyfile(source, partial)
            partial.replace(path)


def _check_version(path: Path, manifest: Mapping[str, Any], field: str, ours: int) -> None:
    if manifest.get(field) != ours:
        raise InputError(
            str(path),
            f"was written by another version of edgelm; this one writes {field} {ours}",
            field=field,
            value=manifest.get(field),
            remedy="give another --out, or use the version that wrote it",
        )

"""Campaigns in the folder of results, as Airflow's pages show them.

Reads campaign.json, which runs there are, and the objective in each summary.json: records and
figures are the report's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.results.folder import DONE, FAILED, SUMMARY, run_folder, runs_folder
from controller.results.manifest import MANIFEST, Manifest, RunEntry, read_manifest

PAGE: Final = "index.html"
MOST: Final = 200  # campaigns on a page, the newest


@dataclass(frozen=True, slots=True)
class Standing:
    """A strategy within a campaign. ``objective``: mean over its finished runs, lower is better;
    None without any."""

    strategy: str
    done: int
    runs: int
    objective: float | None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign's folder: its runs by state, its strategies from best to worst. ``problem``: why
    its campaign.json cannot be read, then nothing else is known."""

    folder: str
    changed_unix_s: float
    has_report: bool
    name: str = ""
    summary: str = ""
    done: int = 0
    failed: int = 0
    pending: int = 0
    standings: tuple[Standing, ...] = ()
    problem: str = ""

    @property
    def runs(self) -> int:
        return self.done + self.failed + self.pending


def is_plain(name: str) -> bool:
    """Return True for the name of a visible folder or file, without any way to another place."""
    return bool(name) and not name.startswith(".") and not set("/\\\0") & set(name)


def list_campaigns(root: Path) -> list[Campaign]:
    """Return the newest campaigns below a folder, the last changed first."""
    try:
        names = [one.name for one in os.scandir(root) if is_plain(one.name)]
    except OSError:
        return []
    return read_campaigns(root, names)


def read_campaigns(root: Path, names: Iterable[str]) -> list[Campaign]:
    """Return those of the named campaigns that there are, the last changed first."""
    there = {name: at for name in set(names) if (at := _changed_unix_s(root / name))}
    newest = sorted(there, key=lambda name: (-there[name], name))[:MOST]
    return [_read(root / name, there[name]) for name in newest]


def read_campaign(root: Path, name: str) -> Campaign | None:
    """Return a campaign; None if there is none of this name."""
    return next(iter(read_campaigns(root, [name])), None) if is_plain(name) else None


def _read(folder: Path, changed_unix_s: float) -> Campaign:
    has_report = (folder / "report" / PAGE).is_file()
    try:
        manifest = _manifest(folder, (folder / MANIFEST).stat().st_mtime_ns)
    except (InputError, OSError) as error:
        return Campaign(folder.name, changed_unix_s, has_report, problem=str(error))
    made = _made(folder)
    done = [run for run in manifest.runs if run.state == DONE or run.id in made]
    failed = sum(run.state == FAILED and run.id not in made for run in manifest.runs)
    return Campaign(
        folder=folder.name,
        changed_unix_s=changed_unix_s,
        has_report=has_report,
        name=manifest.name,
        summary=manifest.summary,
        done=len(done),
        failed=failed,
        pending=len(manifest.runs) - len(done) - failed,
        standings=_standings(folder, manifest.runs, done),
    )


def _standings(
    folder: Path, runs: Iterable[RunEntry], done: Iterable[RunEntry]
) -> tuple[Standing, ...]:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.strategy] = counts.get(run.strategy, 0) + 1
    finished: dict[str, list[float | None]] = {strategy: [] for strategy in counts}
    for run in done:
        finished[run.strategy].append(_objective_of(folder, run.id))
    found = [
        Standing(strategy, len(finished[strategy]), count, _mean(finished[strategy]))
        for strategy, count in counts.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.objective is None, one.objective or 0.0)))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _made(folder: Path) -> frozenset[str]:
    """Return the ids of finished runs: a run's folder appears whole, at its end."""
    try:
        return frozenset(one.name for one in os.scandir(runs_folder(folder)))
    except OSError:
        return frozenset()


def _changed_unix_s(folder: Path) -> float:
    """Return when a campaign's grid or runs have changed last; 0 if it is no campaign."""
    try:
        changed = (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0
    try:
        return max(changed, runs_folder(folder).stat().st_mtime)
    except OSError:  # no run yet
        return changed


def _objective_of(folder: Path, run_id: str) -> float | None:
    path = run_folder(folder, run_id) / SUMMARY
    try:
        return _objective(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _manifest(folder: Path, _written_ns: int) -> Manifest:
    return read_manifest(folder)


@lru_cache(maxsize=50_000)
def _objective(path: Path, _written_ns: int) -> float | None:
    try:
        found = json.loads(path.read_bytes())["objective"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(found) if isinstance(found, int | float) else None

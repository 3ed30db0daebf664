"""A grid kept in a campaign's folder: campaign.json names the runs, experiments/ID.json says what
each is. So a folder alone is enough to go on, on any machine that sees it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from controller.campaigns.experiment import Experiment, load_experiment, trace_of
from controller.campaigns.file import CampaignFile
from controller.campaigns.grid import Cell, Grid
from controller.domain.errors import InputError
from controller.inputs.catalog import parse
from controller.results.folder import (
    EXPERIMENT,
    experiment_path,
    run_folder,
    run_id_of,
    trace_path,
)
from controller.results.manifest import MANIFEST, RunEntry, read_manifest


def keep_grid(root: Path, grid: Grid) -> None:
    """Write what the folder at ``root`` lacks of the grid's experiments and traces. The caller has
    the campaign's lock."""
    for cell in grid.cells:
        path, content = experiment_path(root, cell.run_id), cell.experiment.canonical_json()
        if not path.is_file() or path.read_bytes() != content.encode():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".tmp")
            partial.write_bytes(content.encode())
            partial.replace(path)
    for sha256, source in grid.traces.items():
        path = trace_path(root, sha256)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".tmp")
            shutil.copyfile(source, partial)
            partial.replace(path)


def read_grid(root: Path) -> Grid:
    """Return the grid that was resolved when the folder was planned or first run. Files that it
    named may have changed or gone since.

    Raises:
        InputError: ``root`` is no campaign's folder, is of another version of the model, or lacks
            an experiment or a trace.
    """
    manifest = read_manifest(root)
    cells = tuple(Cell(_experiment(root, entry), entry.strategy) for entry in manifest.runs)
    named = (trace_of(cell.experiment.workload) for cell in cells)
    traces = {trace.sha256: trace_path(root, trace.sha256) for trace in named if trace}
    for path in traces.values():
        if not path.is_file():
            raise InputError(
                str(path), "is missing", remedy="copy the folder again, with its traces"
            )
    campaign = parse(CampaignFile, f"{root / MANIFEST}: campaign", manifest.campaign)
    return Grid(campaign, cells, traces)


def picked(grid: Grid, run_ids: Iterable[str] | None, source: str) -> Grid:
    """Return the grid with only these runs, in its own order; all of them for None.

    Raises:
        InputError: a run is not of the grid.
    """
    if run_ids is None:
        return grid
    wanted = set(run_ids)
    unknown = sorted(wanted - {cell.run_id for cell in grid.cells})
    if unknown or not wanted:
        raise InputError(
            source, "has no such run", field="--only", value=", ".join(unknown),
            remedy=f"`edgelm plan` prints the ids that are pending, {MANIFEST} in the campaign's "
            "folder has all",
        )  # fmt: skip
    return replace(grid, cells=tuple(cell for cell in grid.cells if cell.run_id in wanted))


def _experiment(root: Path, entry: RunEntry) -> Experiment:
    """Return the experiment of a run: as kept, or as the finished run has it."""
    for path in (experiment_path(root, entry.id), run_folder(root, entry.id) / EXPERIMENT):
        if path.is_file():
            content = path.read_bytes()
            if run_id_of(content) == entry.id:
                return load_experiment(content, str(path))
    raise InputError(
        str(experiment_path(root, entry.id)), "is missing or was changed",
        remedy=f"run the campaign by its name or file with --out {root}, which writes it again",
    )  # fmt: skip

"""The check of a run's folder: it is finished, whole, and the run that its name says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from controller.results.digests import SUMS, DamagedRun, read_checked, read_sums
from controller.results.folder import EXPERIMENT, RUN_FILES, SUMMARY, TRANSCRIPT, run_id_of

_ENDS: Final = {".parquet": b"PAR1", ".jsonl": b"}\n", ".json": b""}  # of files without a digest


def is_complete(folder: Path) -> bool:
    """Return True if ``folder`` holds a finished run and every file matches its digest."""
    return not problem_of(folder)


def problem_of(folder: Path, *, sums_needed: bool = True) -> str:
    """Return why a folder does not count as a finished run, "" if it does.

    Args:
        folder: of the run, named by its id.
        sums_needed: False accepts a run of format 1, which has no digests: then only what is
            missing, cut short or another run's is noticed.
    """
    try:
        sums = read_sums(folder)
        if sums is None and sums_needed:
            _refuse_absent(folder)
        experiment = read_checked(folder, EXPERIMENT, sums)
        agents = read_object(folder, EXPERIMENT, experiment).get("reasoner")
        if run_id_of(experiment) != folder.name:
            problem = f"is that of run {run_id_of(experiment)}, not of this folder's"
            raise DamagedRun(folder, EXPERIMENT, problem)
        for name in [*RUN_FILES, TRANSCRIPT] if agents else RUN_FILES:
            content = read_checked(folder, name, sums)
            if sums is None and not content.endswith(_ENDS[Path(name).suffix]):
                raise DamagedRun(folder, name, "is cut short")
            if name == SUMMARY:
                read_object(folder, name, content)
    except DamagedRun as error:
        return error.short
    return ""


def code_of(folder: Path) -> str:
    """Return the digest of the code that made a complete run; "" if an older edgelm wrote it.

    Raises:
        DamagedRun: summary.json cannot be read.
    """
    summary = read_object(folder, SUMMARY, read_checked(folder, SUMMARY, None))
    return str(summary.get("code", ""))


def read_object(folder: Path, name: str, content: bytes) -> Mapping[str, Any]:
    """Parse a file's content as a JSON object.

    Raises:
        DamagedRun: it is something else.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedRun(folder, name, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        kind = "null" if found is None else type(found).__name__
        raise DamagedRun(folder, name, f"must hold a JSON object, not {kind}")
    return found


def _refuse_absent(folder: Path) -> None:
    """Raise for the first thing that is not there: the run, one of its files, or the digests."""
    for name in RUN_FILES:
        if not (folder / name).is_file():
            raise DamagedRun(folder, name, "is missing")
    raise DamagedRun(folder, SUMS, "is missing, so that nothing can be checked")

"""A campaign folder as it is on disk (its format: docs/records.md), finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.domain.errors import InputError
from controller.results.completeness import problem_of
from controller.results.digests import REMEDY, SUMS, DamagedRun, read_sums
from controller.results.folder import (
    DONE,
    FAILED,
    MACHINES,
    PENDING,
    RUN_FILES,
    SUMMARY,
    TRANSCRIPT,
    run_folder,
)
from controller.results.manifest import RunEntry, read_manifest
from controller.results.run import Run, Setting, read_figures

if TYPE_CHECKING:
    import polars as pl

# Not of the setting. Who reasoned shows in the strategy's label.
RESERVED: Final = frozenset({"strategy", "seed", "reasoner"})
FIRST_WITH_SUMS: Final = 2  # format


@dataclass(frozen=True)
class Campaign:
    """A campaign's grid and what there is of it."""

    name: str
    summary: str
    folder: Path
    runs: tuple[Run, ...]

    @property
    def complete(self) -> bool:
        """True if every run of the grid is finished."""
        return all(run.state == DONE for run in self.runs)

    @property
    def failed(self) -> dict[str, str]:
        """Errors by run id."""
        return {run.id: run.problem for run in self.runs if run.state == FAILED}

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that are finished and readable."""
        return tuple(run for run in self.runs if run.figures)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong beside every figure of this campaign."""
        unchecked = sum(not run.checked for run in self.finished)
        if not unchecked:
            return ()
        runs = "1 run has" if unchecked == 1 else f"{unchecked} runs have"
        return (
            f"{runs} no {SUMS}, as older versions of edgelm wrote them: their files are read "
            "unchecked",
        )

    @cached_property
    def machines(self) -> pl.DataFrame | None:
        """Use of machines during the runs, a row per run, node and window (docs/telemetry.md); None
        if `edgelm history` has not read it.

        Raises:
            InputError: the file cannot be read.
        """
        import polars as pl

        path = self.folder / MACHINES
        try:
            return pl.read_parquet(path) if path.exists() else None
        except (  # PanicException is a BaseException, of bytes gone bad inside
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            OSError,
            ValueError,
        ) as error:
            raise InputError(
                str(path), f"is not Parquet: {error}",
                remedy="remove it, and let `edgelm history` read it again",
            ) from error  # fmt: skip

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row per finished run: its place in the grid and the figures of its summary."""
        import polars as pl

        rows = [
            {
                "id": run.id,
                "strategy": run.strategy,
                "seed": run.seed,
                **dict(run.setting.axes),
                **{k: v for k, v in run.summary.items() if _is_plain(v)},
            }
            for run in self.finished
        ]
        return pl.DataFrame(rows, infer_schema_length=None)


def read_campaign(folder: Path) -> Campaign:
    """Read the grid and check and read every finished run, whatever version of the model made it.

    Raises:
        InputError: there is no readable campaign.json. A run that cannot be read is no error of
            the campaign: it becomes a run with a ``problem``.
    """
    manifest = read_manifest(folder)
    runs = tuple(
        _read_entry(folder, entry, manifest.format >= FIRST_WITH_SUMS) for entry in manifest.runs
    )
    return Campaign(manifest.name, manifest.summary, folder, runs)


def read_run(folder: Path) -> Run:
    """Read a finished run by itself, from its folder CAMPAIGN/runs/ID.

    Raises:
        InputError: it is no finished run, or files are damaged.
    """
    given, folder = folder, folder.resolve()
    problem = problem_of(folder, sums_needed=False)
    if problem:
        raise InputError(str(given), f"is no finished run: {problem}", remedy=REMEDY)
    run = Run("", "", 0, Setting(()), DONE, None, "", _files(folder), read_sums(folder))
    figures, problem = read_figures(run.content(SUMMARY))
    one = run.experiment
    return Run(
        folder.name, str(one.get("strategy", "")), int(one.get("seed", 0)), Setting(()),
        DONE, figures, problem, run.files, run.digests,
    )  # fmt: skip


def _read_entry(campaign: Path, entry: RunEntry, sums_needed: bool) -> Run:
    """Read one run of the grid. It is finished when its folder is complete: the state in
    campaign.json may be older."""
    folder = run_folder(campaign, entry.id)
    figures, state, problem = None, entry.state, entry.error or ""
    damage = problem_of(folder, sums_needed=sums_needed)
    if not damage:
        state = DONE
        try:
            figures, problem = read_figures((folder / SUMMARY).read_bytes())
        except OSError as error:
            problem = f"damaged: {SUMMARY} cannot be read: {error.strerror}"
    elif folder.exists():
        state, problem = PENDING, f"damaged: {damage}"
    elif state == DONE:
        state, problem = PENDING, "marked done, but files are missing or cut short"
    elif not problem:
        problem = "failed without a message" if state == FAILED else "not finished"
    return Run(
        id=entry.id,
        strategy=entry.strategy,
        seed=entry.seed,
        setting=Setting(tuple((k, v) for k, v in entry.axes.items() if _is_axis(k, v))),
        state=state,
        figures=figures,
        problem=problem,
        files=_files(folder),
        digests=_digests(folder, sums_needed),
    )


def _digests(folder: Path, sums_needed: bool) -> dict[str, str] | None:
    """Return the digests to check files with. Where they are needed and cannot be had, no file
    passes."""
    try:
        found = read_sums(folder)
    except DamagedRun:
        return {}
    return {} if found is None and sums_needed else found


def _files(folder: Path) -> dict[str, bytes | Path]:
    return {n: folder / n for n in (*RUN_FILES, TRANSCRIPT) if (folder / n).is_file()}


def _is_axis(key: str, value: object) -> bool:
    return key not in RESERVED and isinstance(value, str | int | float)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float | str)

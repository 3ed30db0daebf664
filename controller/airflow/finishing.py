"""The last tasks of a campaign: complete or not by its own files, and how it compares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from airflow.sdk import Asset, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from controller.airflow.notes import write_note
from controller.airflow.operators import EdgelmOperator, results

FINISHED: Final = Asset(name="campaign_finished", uri="edgelm://campaigns/finished")
RESULT: Final = ("id", "state", "error")  # what a run's entry has besides its place in the grid
SHOWN: Final = 5  # runs that an error names


class EdgelmCheckOperator(EdgelmOperator):
    """Judge by the runs' own files whether a campaign is complete; say what came of it in the run's
    note. Airflow's states of tasks count for nothing here."""

    template_fields: Sequence[str] = ("folder",)

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(outlets=[FINISHED], **kwargs)
        self.folder = folder

    def execute(self, context: Context) -> Any:
        run = context["dag_run"]
        folder = campaign_folder(self.folder, context)
        found = self._run(["check", str(folder)], fails=(1,))
        write_note(run.dag_id, run.run_id, outcome(found), self.log)
        if found["lacking"]:
            lacking = "; ".join(f"{one['id']} {one['problem']}" for one in found["lacking"][:SHOWN])
            raise AirflowFailException(f"{outcome(found)}; lacking: {lacking}")
        self.log.info("%s", outcome(found))
        context["outlet_events"][FINISHED].extra = {
            "campaign": found["campaign"],
            "folder": folder.name,
            "runs": found["runs"],
        }
        return found


class EdgelmReportOperator(EdgelmOperator):
    """Draw a campaign's report.

    Args:
        folder: the campaign's, as for :func:`campaign_folder`.
    """

    template_fields: Sequence[str] = ("folder",)

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder

    def execute(self, context: Context) -> Any:
        return self._run(["report", str(campaign_folder(self.folder, context))])


class EdgelmCompareOperator(EdgelmOperator):
    """Compare a finished campaign with the last one of its name; a regression fails the task.

    Args:
        folder: the campaign's, as for :func:`campaign_folder`.
        tolerance: of the objective.
    """

    template_fields: Sequence[str] = ("folder", "tolerance")

    def __init__(self, *, folder: str, tolerance: float | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder, self.tolerance = folder, tolerance

    def execute(self, context: Context) -> Any:
        run = context["dag_run"]
        new = campaign_folder(self.folder, context)
        old = last_before(new)
        if old is None:
            write_note(run.dag_id, run.run_id, f"{new.name}: the first of its name", self.log)
            raise AirflowSkipException(f"{new.name} is the first complete campaign of its name")
        found = self._run(["compare", str(new), str(old), "--tolerance", str(self.tolerance)])
        said = comparison(found, new, old)
        write_note(run.dag_id, run.run_id, said, self.log)
        if found["regression"]:
            raise AirflowFailException(said)
        self.log.info("%s", said)
        return found


def campaign_folder(given: str, context: Context) -> Path:
    """Return the folder of a campaign: the one that is given, as a path or a name below the folder
    of results, else that of the newest event that began the run.

    Raises:
        AirflowFailException: there is none.
    """
    name = given
    if not name:
        events = context["triggering_asset_events"].get(FINISHED) or []
        name = str(events[-1].extra.get("folder", "")) if events else ""
    folder = results() / name
    if not name or not (folder / "campaign.json").is_file():
        raise AirflowFailException(f"{name or 'nothing'} is no campaign's folder in {results()}")
    return folder


def last_before(new: Path) -> Path | None:
    """Return the newest complete campaign of the same name that was written before this one and
    has a run in common with it."""
    own = _manifest(new)
    if own is None:
        return None
    written_s = (new / "campaign.json").stat().st_mtime
    found = [
        (path.stat().st_mtime, path.parent)
        for path in new.parent.glob("*/campaign.json")
        if path.parent != new and path.stat().st_mtime <= written_s
    ]
    for _, folder in sorted(found, reverse=True):
        other = _manifest(folder)
        if other is None or other["name"] != own["name"] or not _is_complete(other):
            continue
        if _settings(other) & _settings(own):
            return folder
    return None


def outcome(found: Mapping[str, Any]) -> str:
    """Return what came of a campaign in a line: runs, objective and success of each strategy, who
    decided."""
    runs = f"{found['done']} of {found['runs']} runs"
    figures = ", ".join(_figures(found["strategies"]))
    who = ", ".join(found["reasoners"])
    return "; ".join(filter(None, [f"{found['campaign']}: {runs}", figures, who]))


def comparison(found: Mapping[str, Any], new: Path, old: Path) -> str:
    """Return a comparison in a line, regressions first."""
    pairs = sorted(found["strategies"], key=lambda one: not one["regression"])
    words = [
        f"{'REGRESSION: ' if one['regression'] else ''}{one['strategy']} "
        f"{one['objective']['difference']:+.4f}"
        for one in pairs
    ]
    return f"{new.name} against {old.name}: {', '.join(words)}"


def _figures(standings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in standings:
        success = one["success_rate"]["mean"]
        yield f"{one['strategy']} {one['objective']['mean']:.4f} ({success:.1%} succeed)"


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / "campaign.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _settings(manifest: Mapping[str, Any]) -> set[str]:
    """Return each run's place in the grid."""
    axes = ({k: v for k, v in run.items() if k not in RESULT} for run in manifest["runs"])
    return {json.dumps(one, sort_keys=True) for one in axes}


def _is_complete(manifest: Mapping[str, Any]) -> bool:
    return all(run["state"] == "done" for run in manifest["runs"])

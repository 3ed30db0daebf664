"""Use of machines during a campaign's runs: read from Prometheus, kept beside the runs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.domain.errors import InputError, Permanent
from controller.files import replace_file
from controller.results.campaign import Campaign, read_campaign
from controller.results.folder import MACHINES
from controller.results.run import Run
from controller.telemetry.history import History
from controller.telemetry.machine_history import read_use

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Span:
    """The time of a run on its testbed's clocks."""

    run: Run
    began_unix_s: float
    speed: float
    ended_s: float  # by the run's clock
    nodes: tuple[str, ...]

    @property
    def ended_unix_s(self) -> float:
        """The Unix time of its end."""
        return self.began_unix_s + self.ended_s / self.speed


def keep_history(folder: Path, url: str, window_s: int) -> tuple[pl.DataFrame, list[str]]:
    """Read the use of machines during a campaign's finished runs into its ``machines.parquet``;
    what that has of other runs stays. Return all of it, and a sentence for each run that has no
    times or that Prometheus knows nothing of.

    Raises:
        InputError: it is no campaign, or no URL.
        Transient: Prometheus does not answer.
        Permanent: it has nothing of any run.
    """
    import polars as pl

    campaign = read_campaign(folder)
    spans, problems = _spans(campaign)
    fresh: list[pl.DataFrame] = []
    with contextlib.closing(History(url)) as history:
        for span in spans:
            rows = list(_rows(span, history, window_s))
            if any(row["busy_cores"] is not None or row["gpu_busy"] is not None for row in rows):
                fresh.append(pl.DataFrame(rows, infer_schema_length=None))
            else:
                problems.append(f"run {span.run.id}: {url} has nothing of {_times(span)}")
    if not fresh:
        raise Permanent(
            f"{folder}: nothing to read. " + "; ".join(problems[:3]) + ". Does Prometheus scrape "
            "the nodes' exporters with the label node, and keep what it has for so long?"
        )
    table = _joined(campaign, fresh)
    content = io.BytesIO()
    table.write_parquet(content)
    try:
        replace_file(folder / MACHINES, content.getvalue())
    except OSError as error:
        raise Permanent(f"{folder / MACHINES}: cannot be written: {error.strerror}") from error
    return table, problems


def _spans(campaign: Campaign) -> tuple[list[Span], list[str]]:
    if not campaign.finished:
        raise InputError(
            str(campaign.folder), "has no finished run",
            remedy="finish the campaign: repeat the command that began it",
        )  # fmt: skip
    found, problems = [], []
    for run in campaign.finished:
        began_unix_s = run.summary.get("began_unix_s")
        if began_unix_s is None:
            target = run.summary.get("target", "twin")
            problems.append(
                f"run {run.id}: ran on the twin, on no machines" if target == "twin"
                else f"run {run.id}: an older edgelm made it, and did not write down when"
            )  # fmt: skip
            continue
        last_slot: Any = run.slots["slot"].max()
        found.append(
            Span(
                run=run,
                began_unix_s=float(began_unix_s),
                speed=float(run.summary["time_scale"]),
                ended_s=(last_slot + 1) * float(run.experiment["slot_s"]),
                nodes=tuple(sorted(set(run.slots["node"]))),
            )
        )
    return found, problems


def _rows(span: Span, history: History, window_s: int) -> Iterator[dict[str, Any]]:
    """Yield a row per node of the run and window; unknown is None."""
    use = read_use(history, span.began_unix_s, span.ended_unix_s, window_s)
    for node in span.nodes:
        for one in use.get(node, []):
            figures = asdict(one)
            until_s = (figures.pop("until_s") - span.began_unix_s) * span.speed
            del figures["node"]
            yield {
                "run": span.run.id,
                "node": node,
                "from_s": until_s - window_s * span.speed,
                "until_s": until_s,
                **{name: value if isfinite(value) else None for name, value in figures.items()},
            }


def _joined(campaign: Campaign, fresh: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the new rows with those that the campaign has of other runs."""
    import polars as pl

    new = pl.concat(fresh, how="vertical_relaxed")
    try:
        kept = campaign.machines
    except InputError:  # it is replaced
        kept = None
    if kept is None:
        return new
    others = kept.filter(~pl.col("run").is_in(new["run"].unique().to_list()))
    return pl.concat([others, new], how="vertical_relaxed")


def _times(span: Span) -> str:
    ends = (span.began_unix_s, span.ended_unix_s)
    first, last = (datetime.fromtimestamp(one, UTC) for one in ends)
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC"

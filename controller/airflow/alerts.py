"""Deadline alerts: a run that takes too long is told about while it still runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

log = logging.getLogger("edgelm.airflow")


class RunCreatedDeadline(BaseDeadlineReference):
    """The moment at which a run was created.

    Airflow's own DAGRUN_QUEUED_AT makes it impossible to clear a task (3.3.2 answers 500), and
    DAGRUN_LOGICAL_DATE is unknown for a run that a person begins.
    """

    def _evaluate_with(self, *, session: Any, **more: Any) -> datetime:
        """Return the present: Airflow asks when it creates the run."""
        del session, more
        return datetime.now(UTC)


def within(*, hours: float) -> DeadlineAlert:
    """Return an alert for runs that are not over so long after they were created."""
    return DeadlineAlert(
        reference=RunCreatedDeadline(),
        interval=timedelta(hours=hours),
        callback=AsyncCallback(tell_late, {"hours": hours}),
    )


async def tell_late(hours: float, **more: Any) -> None:
    """Say in the triggerer's log which run is late. Notifiers of Airflow's providers go here."""
    run = more.get("context", {}).get("dag_run", {})
    name = f"{run.get('dag_id')}/{run.get('dag_run_id') or run.get('run_id')}" if run else "a run"
    log.warning("%s is not over %g hours after it was created", name, hours)

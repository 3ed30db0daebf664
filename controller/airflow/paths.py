"""Addresses of the pages that Airflow's API server has from us."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from controller.airflow.campaigns import PAGE

PREFIX: Final = "/edgelm"  # of all pages, below Airflow's own address
TESTBED: Final = "#testbed"  # place on the overview


def run_path(dag_id: str, run_id: str) -> str:
    """Return the path of a run's page below :data:`PREFIX`: its report, or how far it is."""
    return f"/run?{urlencode({'dag_id': dag_id, 'run_id': run_id})}"


def report_path(campaign: str) -> str:
    """Return the path of a report's page below :data:`PREFIX`."""
    return f"/campaigns/{quote(campaign, safe='')}/report/{PAGE}"

"""Links that an operator shows on its task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from controller.airflow.paths import PREFIX, TESTBED, run_path

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ReportLink(BaseOperatorLink):
    """The report of the campaign of a task's run; how far it is, as long as there is none."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        return f"{server_url()}{PREFIX}{run_path(ti_key.dag_id, ti_key.run_id)}"


class StatusLink(BaseOperatorLink):
    """The testbed: who has it until when."""

    name = "Testbed"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        return f"{server_url()}{PREFIX}/{TESTBED}"


def server_url() -> str:
    """Return the address of Airflow's UI, "" if its settings do not say; then links are of the
    server that shows them."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/")

"""The tasks of a campaign, which several DAGs share: plan, runs, report, judgement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import TriggerRule

from controller.airflow.finishing import EdgelmCheckOperator, EdgelmReportOperator
from controller.airflow.operators import (
    EdgelmCampaignOperator,
    EdgelmEpochOperator,
    EdgelmReleaseOperator,
)
from controller.airflow.planning import EdgelmPlanOperator, EdgelmTestbedRowsOperator

PLAN: Final = "(ti.xcom_pull(task_ids='plan', key='plan') or {})"
FOLDER: Final = f"{{{{ {PLAN}.get('folder', '') }}}}"
HOLDER: Final = "{{ dag.dag_id }}/{{ run_id }}"  # one for the whole campaign
USER: Final = (  # the holder, if the campaign has used a testbed
    f"{{{{ '' if {PLAN}.get('target', 'twin') == 'twin' else dag.dag_id ~ '/' ~ run_id }}}}"
)
ROW: Final = "{{ task.row }}"
ROW_RETRIES: Final = 5  # each goes on where the last one stopped; a scheduler's end costs one
DEFAULTS: Final[dict[str, Any]] = {
    "owner": "edgelm",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "execution_timeout": timedelta(hours=1),
}


def campaign_tasks(fixed: Mapping[str, Any] | None = None) -> EdgelmPlanOperator:
    """Add the tasks of a campaign to the DAG at hand; return the first of them.

    Rows of runs are mapped tasks, on the twin side by side, on a testbed one after the other. The
    report is drawn of what there is; the last task judges by the runs' files.

    Args:
        fixed: parameters that are not asked for.
    """
    plan = EdgelmPlanOperator(
        task_id="plan", fixed=fixed,
        doc_md="Checks parameters and budget, estimates time and cost, writes the folder.",
    )  # fmt: skip
    twin = EdgelmCampaignOperator.partial(
        task_id="run_on_twin", folder=FOLDER, map_index_template=ROW, retries=ROW_RETRIES,
        execution_timeout=timedelta(hours=12),
        doc_md="Makes a row of runs on the twin; finished ones are kept.",
    ).expand_kwargs(plan.output)  # fmt: skip
    rows = EdgelmTestbedRowsOperator(
        task_id="testbed_rows", doc_md="Gives the rows to the testbed if it is to run them."
    )
    testbed = EdgelmEpochOperator.partial(
        task_id="run_on_testbed", folder=FOLDER, holder=HOLDER, map_index_template=ROW,
        time_scale="{{ params.get('time_scale') or '' }}",
        max_active_tis_per_dagrun=1, execution_timeout=timedelta(hours=1), retries=ROW_RETRIES,
        doc_md="Has the controller make a row of runs, deferred meanwhile, and collects them.",
    ).expand_kwargs(rows.output)  # fmt: skip
    report = EdgelmReportOperator(
        task_id="report", folder=FOLDER, trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Draws the report of the runs that are there.",
    )  # fmt: skip
    check = EdgelmCheckOperator(
        task_id="check", folder=FOLDER, trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Fails unless every run is there and whole; tells the asset campaign_finished.",
    )  # fmt: skip
    release = EdgelmReleaseOperator(
        task_id="release", holder=USER, trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Gives the testbed back.",
    )  # fmt: skip
    plan >> rows
    [twin, testbed] >> report >> check
    testbed >> release
    return plan

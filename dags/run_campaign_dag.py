"""
### Run a campaign

Plans it (runs, minutes, cost; over the budget nothing begins), makes its runs on the twin or a
testbed, draws the report and judges by the runs' own files whether it is complete. To go on after
a failure, clear the failed tasks: finished runs are kept.
"""

from airflow.sdk import DAG

from controller.airflow.alerts import within
from controller.airflow.campaign import DEFAULTS, campaign_tasks
from controller.airflow.params import params_of

with DAG(
    dag_id="run_campaign",
    schedule=None,
    params=params_of("run_campaign"),
    default_args=DEFAULTS,
    deadline=within(hours=24),
    max_active_runs=4,
    render_template_as_native_obj=False,
    tags=["edgelm", "campaign"],
    doc_md=__doc__,
):
    campaign_tasks()

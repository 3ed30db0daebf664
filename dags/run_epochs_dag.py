"""
### Run epochs on the testbed

Examines the testbed, has its controller run a strategy for some epochs, collects and reports. One
holder has the testbed at a time: a run that finds it taken says who has it until when, and waits.
Scheduled daily once it is unpaused; each run's workload has a seed of its own.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from controller.airflow.alerts import within
from controller.airflow.approvals import EdgelmPolicyOperator, PolicyRowsOperator
from controller.airflow.campaign import DEFAULTS, ROW, campaign_tasks
from controller.airflow.params import params_of
from controller.airflow.planning import EdgelmHealthOperator

with DAG(
    dag_id="run_epochs",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=True,
    params=params_of("run_epochs"),
    default_args=DEFAULTS,
    deadline=within(hours=24),
    max_active_runs=2,
    tags=["edgelm", "testbed"],
    doc_md=__doc__,
):
    health = EdgelmHealthOperator(
        task_id="health", execution_timeout=timedelta(minutes=5), retries=0,
        doc_md="Examines the testbed as `edgelm doctor` does; what is wrong is in the log.",
    )  # fmt: skip
    plan = campaign_tasks({"campaign": "paper"})
    policies = PolicyRowsOperator(
        task_id="policy_rows", doc_md="Names the policies that a person is asked about."
    )
    approve = EdgelmPolicyOperator.partial(
        task_id="approve_policy", map_index_template=ROW, retries=1,
        doc_md="Asks a person about a policy while the run waits (mode approve).",
    ).expand_kwargs(policies.output)  # fmt: skip
    health >> plan >> policies

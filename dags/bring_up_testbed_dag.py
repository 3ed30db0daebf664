"""
### Bring a testbed up, or tear it down

Plans (machines, quota, minutes; what does not fit is refused), waits for a person's approval, then
does the phases of `edgelm up` one by one, or `edgelm down`. To go on after a failure, clear the
failed task: what is done already changes nothing. Clouds' credentials are in the clouds.yaml of
Airflow's workers, never here.
"""

from datetime import timedelta

from airflow.sdk import DAG, chain

from controller.airflow.alerts import within
from controller.airflow.approvals import EdgelmApprovalOperator
from controller.airflow.bringup import (
    EdgelmBringUpPlanOperator,
    EdgelmPhaseOperator,
    EdgelmTearDownOperator,
)
from controller.airflow.campaign import DEFAULTS
from controller.airflow.params import params_of
from controller.bringup.phases import TITLES

with DAG(
    dag_id="bring_up_testbed",
    schedule=None,
    params=params_of("bring_up_testbed"),
    default_args=DEFAULTS,
    deadline=within(hours=12),
    max_active_runs=1,
    tags=["edgelm", "testbed"],
    doc_md=__doc__,
):
    plan = EdgelmBringUpPlanOperator(
        task_id="plan", execution_timeout=timedelta(minutes=10), retries=0,
        doc_md="Says what would be made or removed; changes nothing.",
    )  # fmt: skip
    approve = EdgelmApprovalOperator(
        task_id="approve", execution_timeout=timedelta(days=1),
        subject="{{ 'Tear down' if params.tear_down else 'Bring up' }} {{ params.testbed }}?",
        body="{{ ti.xcom_pull(task_ids='plan') }}\n\nThe log of the task `plan` has all of it.",
        response_timeout=timedelta(hours=11), retries=1,
        doc_md="Waits for a person. A rejection fails the run and says who rejected it.",
    )  # fmt: skip
    phases = [
        EdgelmPhaseOperator(
            task_id=name, phase=name, retries=1, execution_timeout=timedelta(hours=3),
            trigger_rule="none_failed", doc_md=f"{title}: `edgelm up --from {name}`.",
        )
        for name, title in TITLES.items()
    ]  # fmt: skip
    tear_down = EdgelmTearDownOperator(
        task_id="tear_down", retries=1, execution_timeout=timedelta(hours=1),
        doc_md="`edgelm down`: what edgelm has made, and only that.",
    )  # fmt: skip
    chain(plan, approve, [phases[0], tear_down])
    chain(*phases)

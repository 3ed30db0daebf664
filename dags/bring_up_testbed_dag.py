"""
### Bring a testbed up, or tear it down

Examines what is there, waits for a person's approval, and goes on. The phases themselves
(machines, Kubernetes, GPUs, services) are not part of edgelm yet: after the approval the run fails
and says so.
"""

from datetime import timedelta

from airflow.sdk import DAG

from controller.airflow.alerts import within
from controller.airflow.approvals import EdgelmApprovalOperator
from controller.airflow.campaign import DEFAULTS
from controller.airflow.params import params_of
from controller.airflow.planning import EdgelmHealthOperator, PhasesOperator

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
    doctor = EdgelmHealthOperator(
        task_id="doctor", only_tell=True, execution_timeout=timedelta(minutes=5),
        doc_md="Examines what is there; what is wrong is what has to be brought up.",
    )  # fmt: skip
    approve = EdgelmApprovalOperator(
        task_id="approve", execution_timeout=timedelta(days=1),
        subject="{{ 'Tear down' if params.tear_down else 'Bring up' }} {{ params.testbed }}?",
        body="The log of the task `doctor` says what is there now.",
        response_timeout=timedelta(hours=11), retries=1,
        doc_md="Waits for a person. A rejection fails the run and says who rejected it.",
    )  # fmt: skip
    phases = PhasesOperator(
        task_id="phases",
        retries=0,
        doc_md="Says what is missing, until the bring-up's phases are part of edgelm.",
    )
    doctor >> approve >> phases

"""
### Analyse a campaign

Whenever a campaign is finished: draws its figures anew and compares it, seed by seed, with the last
complete one of its name. A regression makes the run red.
"""

from datetime import timedelta

from airflow.sdk import DAG

from controller.airflow.alerts import within
from controller.airflow.campaign import DEFAULTS
from controller.airflow.finishing import FINISHED, EdgelmCompareOperator, EdgelmReportOperator
from controller.airflow.params import params_of

with DAG(
    dag_id="analyse_campaign",
    schedule=[FINISHED],
    params=params_of("analyse_campaign"),
    default_args=DEFAULTS,
    deadline=within(hours=2),
    tags=["edgelm", "campaign"],
    doc_md=__doc__,
):
    figures = EdgelmReportOperator(
        task_id="figures", folder="{{ params.folder }}",
        execution_timeout=timedelta(minutes=30), doc_md="Draws the report.",
    )  # fmt: skip
    compare = EdgelmCompareOperator(
        task_id="compare", folder="{{ params.folder }}", tolerance="{{ params.tolerance }}",
        execution_timeout=timedelta(minutes=30),
        doc_md="Compares with the last one of the same name; fails for a regression.",
    )  # fmt: skip
    figures >> compare

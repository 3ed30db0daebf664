"""A stand-in for run_campaign: its parameters, and a task that links to its report."""

from datetime import timedelta

from airflow.sdk import DAG, BaseOperator

from controller.airflow.folders import folder_of
from controller.airflow.links import ReportLink, StatusLink
from controller.airflow.params import params_of


class NameFolder(BaseOperator):
    """Says the name of the folder of its run."""

    operator_extra_links = (ReportLink(), StatusLink())

    def execute(self, context):
        name = folder_of("run_campaign", context["run_id"])
        self.log.info("folder %s", name)
        return name


with DAG(
    "run_campaign",
    schedule=None,
    params=params_of("run_campaign"),
    doc_md=__doc__,
    tags=["edgelm"],
    default_args={"owner": "edgelm", "retries": 0, "execution_timeout": timedelta(minutes=2)},
):
    NameFolder(task_id="name_folder", doc_md="Says the name of the folder of its run.")

with DAG("stranger", schedule=None, doc_md="A DAG of somebody else.", tags=["edgelm"]):
    ...

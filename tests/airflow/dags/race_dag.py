"""Two tasks that are both told to make every run of one campaign."""

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from controller.airflow.operators import EdgelmCampaignOperator

with DAG(
    dag_id="race", schedule=None, max_active_tasks=2,
    params={"folder": Param("", type="string"), "runs": Param([], type="array")},
) as race:  # fmt: skip

    @task
    def racers(params: dict[str, list[str]] | None = None) -> list[dict[str, object]]:
        assert params is not None
        return [{"runs": params["runs"], "row": f"racer {k}"} for k in range(2)]

    EdgelmCampaignOperator.partial(
        task_id="make", folder="{{ params.folder }}", map_index_template="{{ task.row }}",
        execution_timeout=timedelta(minutes=5),
    ).expand_kwargs(racers())  # fmt: skip

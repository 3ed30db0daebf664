"""A run that takes longer than its deadline."""

from datetime import timedelta
from time import sleep

from airflow.sdk import dag, task

from controller.airflow.alerts import within


@dag(schedule=None, deadline=within(hours=0.001))
def late():
    @task(execution_timeout=timedelta(minutes=1))
    def wait() -> None:
        sleep(20)

    wait()


late()

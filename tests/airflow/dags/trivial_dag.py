"""Tasks of the tests' own: as many as asked for, and one that waits without a process."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.sdk import Param, dag, get_current_context, task


@dag(
    schedule=None,
    params={"count": Param(3, type="integer", minimum=0), "seconds": Param(0, type="number")},
    max_active_tasks=64,
)
def trivial():
    @task
    def numbers() -> list[int]:
        return list(range(get_current_context()["params"]["count"]))

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def work(number: int) -> dict[str, str | int]:
        print(f"number {number}, home {os.environ['AIRFLOW_HOME']}")
        time.sleep(get_current_context()["params"]["seconds"])
        return {"number": number, "home": os.environ["AIRFLOW_HOME"], "host": socket.gethostname()}

    work.expand(number=numbers())


@dag(schedule=None)
def waiting():
    WaitSensor(
        task_id="wait", time_to_wait=timedelta(seconds=10), deferrable=True,
        timeout=120, poke_interval=1, retries=0,
    )  # fmt: skip


trivial()
waiting()

"""
### Nightly regression

A small campaign on the twin with fixed parameters, every night once it is unpaused. When it is
complete, `analyse_campaign` compares it with the night before and is red if a strategy has become
worse.
"""

from datetime import datetime

from airflow.sdk import DAG

from controller.airflow.alerts import within
from controller.airflow.campaign import DEFAULTS, campaign_tasks
from controller.airflow.params import params_of

with DAG(
    dag_id="nightly_regression",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=True,
    params=params_of("nightly_regression"),
    default_args=DEFAULTS,
    deadline=within(hours=4),
    max_active_runs=1,
    tags=["edgelm", "campaign"],
    doc_md=__doc__,
):
    campaign_tasks(
        {
            "campaign": "paper", "strategies": ["RR", "RL", "RF", "SOLVER"], "seeds": 3,
            "epochs": 3, "target": "twin", "rows": 6, "hours_at_most": 2, "usd_at_most": 0,
        }
    )  # fmt: skip

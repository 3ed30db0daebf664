"""The first task of a campaign: parameters checked, time and cost known, the folder written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from controller.airflow.folders import folder_of
from controller.airflow.hook import DEFAULT, EdgelmHook
from controller.airflow.notes import write_note
from controller.airflow.operators import EdgelmOperator, results
from controller.airflow.params import parameters, unknown_keys

# Parameter -> option of `edgelm plan`. What is null or empty leaves the campaign's own.
OPTIONS: Final = {
    "strategies": "--strategy",
    "strategy": "--strategy",
    "seeds": "--seeds",
    "seed": "--seed",
    "epochs": "--epochs",
    "testbed": "--testbed",
    "workload": "--workload",
    "load": "--load",
    "reasoner": "--reasoner",
    "mode": "--mode",
    "rows": "--rows",
    "hours_at_most": "--hours-at-most",
    "usd_at_most": "--usd-at-most",
    "time_scale": "--time-scale",
    "target": "--target",
    "engines": "--target",
}
FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
PLAN: Final = "plan"  # key of what `edgelm plan` prints
TWIN: Final = "twin"


class EdgelmPlanOperator(EdgelmOperator):
    """Plan a campaign: refuse what cannot run or is over the budget, and write its folder.

    Returns the rows for mapped tasks on the twin, none if a testbed is to run them; what `edgelm
    plan` prints is under the key ``plan``, since only what a task returns can be mapped over.

    Args:
        fixed: parameters that are not asked for.
    """

    def __init__(self, *, fixed: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed or {}

    def execute(self, context: Context) -> Any:
        run, ti = context["dag_run"], context["ti"]
        if run.dag_id in parameters():
            refused = unknown_keys(run.dag_id, run.conf or {})
            if refused:
                raise AirflowFailException("; ".join(refused))
        chosen = {**dict(context["params"]), **self.fixed}
        if "seed" in chosen and chosen["seed"] is None:
            chosen["seed"] = int((run.run_after - FIRST_DAY).total_seconds())
        folder = results() / folder_of(run.dag_id, run.run_id)
        plan = self._run([*arguments(chosen), "--out", str(folder)])
        self.log.info("%s", sentence(plan))
        write_note(run.dag_id, run.run_id, sentence(plan), self.log)
        ti.xcom_push(key=PLAN, value=plan)
        return _rows(plan) if plan["target"] == TWIN else []


class EdgelmTestbedRowsOperator(BaseOperator):
    """Return the rows of a plan for mapped tasks on a testbed, none if the twin is to run them."""

    def execute(self, context: Context) -> Any:
        plan = context["ti"].xcom_pull(task_ids="plan", key=PLAN)
        return [] if plan["target"] == TWIN else _rows(plan)


class EdgelmHealthOperator(EdgelmOperator):
    """Examine a testbed; each line of `edgelm doctor` goes to the log, and any that is wrong fails
    the task."""

    def __init__(self, *, edgelm_conn_id: str = DEFAULT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.edgelm_conn_id = edgelm_conn_id

    def execute(self, context: Context) -> Any:
        del context
        testbed = EdgelmHook(self.edgelm_conn_id).testbed
        findings = self._run(["doctor", *testbed.options()], fails=(1,))
        wrong = [one for one in findings if not one["ok"]]
        for one in findings:
            remedy = f" -> {one['remedy']}" if one["remedy"] else ""
            mark = "ok   " if one["ok"] else "WRONG"
            self.log.info("%s %s: %s%s", mark, one["what"], one["found"], remedy)
        if wrong:
            named = "; ".join(f"{one['what']}: {one['found']}" for one in wrong)
            raise AirflowFailException(f"the testbed is not well: {named}")
        return findings


def arguments(chosen: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `edgelm plan` for parameters; those that it does not know are left
    out."""
    found = ["plan", str(chosen["campaign"])]
    for name, option in OPTIONS.items():
        value = chosen.get(name)
        if value is None or value in ("", []):
            continue
        found += [option, _text(value)]
    return found


def sentence(plan: Mapping[str, Any]) -> str:
    """Return a plan in a line: runs, minutes, cost."""
    minutes, usd = plan["minutes"], plan["usd"]
    takes = "time unknown" if minutes is None else f"about {minutes:.3g} min of one worker"
    costs = "cost unknown" if usd is None else f"{usd:.2f} USD"
    pending = f"{plan['pending']} of {plan['runs']} runs to make on {plan['target']}"
    return f"{plan['campaign']} ({plan['digest'][:6]}): {pending}, {takes}, {costs}"


def _rows(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"row": row["label"], "runs": row["runs"]} for row in plan["rows"]]


def _text(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Sequence | Iterable):
        return str(value)
    return ",".join(map(str, value))

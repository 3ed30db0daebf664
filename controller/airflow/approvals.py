"""A person's word, asked for in Airflow's UI: for a bring-up, and for the policies of agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from controller.airflow.hook import DEFAULT, EdgelmHook, problem_of
from controller.airflow.planning import PLAN
from controller.airflow.triggers import QuestionTrigger

APPROVE: Final = "Approve"
REJECT: Final = "Reject"


class EdgelmApprovalOperator(ApprovalOperator):
    """Wait for a person's approval. A rejection fails the task and names who gave it, since a run
    that was rejected must not be green."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fail_on_reject=True, **kwargs)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        try:
            return super().execute_complete(context, event)
        except HITLRejectException as error:
            who = event.get("responded_by_user") or {}
            name = who.get("name") if isinstance(who, dict) else getattr(who, "name", who)
            raise AirflowFailException(f"rejected by {name or 'a person'}") from error


class PolicyRowsOperator(BaseOperator):
    """Return a row for every policy that a planned campaign asks a person about: none unless its
    mode is approve."""

    def execute(self, context: Context) -> Any:
        if context["params"].get("mode") != "approve":
            return []
        plan = context["ti"].xcom_pull(task_ids="plan", key=PLAN)
        runs = [run for row in plan["rows"] for run in row["runs"]]
        return [one for run in runs for one in _policies(Path(plan["folder"]), run)]


class EdgelmPolicyOperator(HITLOperator):
    """Ask a person whether a policy of a run's agents may replace the one in force.

    Deferred until the controller has the question; then it shows what would change. The controller
    waits for four fifths of the policy's slot: later, and without an answer, the policy in force
    stays. The task is skipped then, and when the run ends without the question.

    Args:
        run: id of the run.
        slot: in which the policy is decided.
        row: for people; the name of the mapped task.
    """

    def __init__(
        self, *, run: str, slot: int, row: str = "", edgelm_conn_id: str = DEFAULT, **kwargs: Any
    ) -> None:
        super().__init__(
            subject=f"May the policy of slot {slot} replace the one in force?",
            options=[APPROVE, REJECT], response_timeout=timedelta(minutes=10), **kwargs,
        )  # fmt: skip
        self.run_id, self.slot, self.row = run, slot, row
        self.edgelm_conn_id = edgelm_conn_id

    def execute(self, context: Context) -> Any:
        del context
        testbed = EdgelmHook(self.edgelm_conn_id).testbed.document()
        trigger = QuestionTrigger(testbed, self.run_id, self.slot)
        self.defer(trigger=trigger, method_name="ask", timeout=timedelta(days=2))

    def ask(self, context: Context, event: dict[str, Any]) -> Any:
        """Show the question that the controller has."""
        question = event["question"]
        if question is None:
            raise AirflowSkipException("the run is over, and nothing was asked for this slot")
        changes = "\n".join(f"- {line}" for line in question["changes"])
        self.body = f"{question['reason']}\n\n{changes}"
        self.log.info("%s\n%s", self.subject, self.body)
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        try:
            chosen = super().execute_complete(context, event)["chosen_options"]
        except HITLTimeoutError:
            raise AirflowSkipException("nobody answered: the policy in force stays") from None
        answer = EdgelmHook(self.edgelm_conn_id).ask(
            "POST", f"/v1/runs/{self.run_id}/approvals/{self.slot}",
            body={"approved": chosen == [APPROVE]},
        )  # fmt: skip
        if answer.status_code in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):
            raise AirflowSkipException(f"too late, the policy in force stays: {problem_of(answer)}")
        answer.raise_for_status()
        return {"slot": self.slot, "approved": chosen == [APPROVE]}


def _policies(folder: Path, run: str) -> Iterator[dict[str, Any]]:
    """Yield a row per epoch of a run."""
    experiment = json.loads((folder / "experiments" / f"{run}.json").read_bytes())
    for epoch in range(experiment["epochs"]):
        slot = epoch * experiment["epoch_slots"]
        yield {"run": run, "slot": slot, "row": f"{run}, slot {slot}"}

"""A bring-up by phases, each of them `edgelm up` from one phase to the same: a task that is cleared
does its phase again, which changes nothing where all is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from controller.airflow.notes import write_note
from controller.airflow.operators import EdgelmOperator
from controller.airflow.params import parameters, unknown_keys

FILES: Final = {"values": "--values", "hosts": "--hosts"}  # parameter: option
FAILED: Final = 1  # exit code with which a result is printed too


class EdgelmBringUpPlanOperator(EdgelmOperator):
    """Plan a bring-up, or list what a tear-down would remove. Changes nothing: what does not fit is
    refused here, and a person sees the rest before giving a word."""

    def execute(self, context: Context) -> Any:
        run, chosen = context["dag_run"], context["params"]
        if run.dag_id in parameters():
            refused = unknown_keys(run.dag_id, run.conf or {})
            if refused:
                raise AirflowFailException("; ".join(refused))
        verb = "down" if chosen["tear_down"] else "up"
        plan = self._run([verb, *_options(chosen, verb), "--plan"])
        told = sentence(plan)
        self.log.info("%s", told)
        write_note(run.dag_id, run.run_id, told, self.log)
        return told


class EdgelmPhaseOperator(EdgelmOperator):
    """Do one phase of a bring-up; skipped when the testbed is to be taken down.

    Args:
        phase: its name, as `edgelm up --from` takes it.
    """

    def __init__(self, *, phase: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.phase = phase

    def execute(self, context: Context) -> Any:
        chosen = context["params"]
        if chosen["tear_down"]:
            raise AirflowSkipException("the testbed is to be taken down")
        part = ["--from", self.phase, "--until", self.phase, "--yes"]
        (result,) = self._phases(["up", *_options(chosen, "up"), *part])
        if result["skipped"]:
            raise AirflowSkipException(result["skipped"])
        return {"changed": sum(result["changed"].values()), "seconds": result["seconds"]}

    def _phases(self, arguments: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._run(arguments, fails=(FAILED,))["phases"]
        lines = [
            f"{one['task']}: {one['host']}: {one['message']} {one['remedy']}".rstrip()
            for result in found for one in result["failures"]
        ]  # fmt: skip
        if lines or not all(one["ok"] for one in found):
            raise AirflowException("; ".join(lines) or "the phase was ended")
        return found


class EdgelmTearDownOperator(EdgelmPhaseOperator):
    """Remove what a bring-up has made; skipped unless the testbed is to be taken down."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(phase="down", **kwargs)

    def execute(self, context: Context) -> Any:
        chosen = context["params"]
        if not chosen["tear_down"]:
            raise AirflowSkipException("the testbed is to be brought up")
        keep = ["--keep-data"] if chosen["keep_data"] else []
        (result,) = self._phases(["down", *_options(chosen, "down"), *keep, "--yes"])
        return {"changed": sum(result["changed"].values()), "seconds": result["seconds"]}


def sentence(plan: Mapping[str, Any]) -> str:
    """Return a plan in a line: machines that are made and removed, minutes."""
    if "servers" not in plan and "hosts" not in plan:
        return (
            f"removes {len(plan['remove'])} things, keeps {plan['keep']} that edgelm did not make"
        )
    minutes = sum(plan["minutes"].values())
    gone = f", removes {', '.join(plan['remove'])}" if plan["remove"] else ""
    if "hosts" in plan:
        return f"{plan['testbed']}: {len(plan['hosts'])} hosts{gone}; about {minutes:.0f} min"
    new = [one["name"] for one in plan["servers"] if not one["exists"]]
    made = f"makes {', '.join(new)}" if new else "makes no machine"
    place = f"{plan['testbed']} on {plan['cloud']} (project {plan['project']['name']})"
    return f"{place}: {made}{gone}; about {minutes:.0f} min"


def _options(chosen: Mapping[str, Any], verb: str) -> list[str]:
    found = ["--testbed", str(chosen["testbed"])]
    if chosen["cloud"]:
        found += ["--cloud", str(chosen["cloud"])]
    for name, option in FILES.items():
        if chosen[name] and verb == "up":
            found += [option, str(chosen[name])]
    return found

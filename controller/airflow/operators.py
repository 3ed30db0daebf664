"""Operators: commands of edgelm, part of a campaign on the twin, runs on a testbed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
from airflow.sdk import BaseOperator, Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from controller.airflow.command import BAD_INPUT, Command, CommandFailed
from controller.airflow.hook import DEFAULT, TIMEOUT_S, EdgelmHook, problem_of
from controller.airflow.links import ReportLink, StatusLink
from controller.airflow.settings import RESULTS, results_folder
from controller.airflow.triggers import FreeTestbedTrigger, RunTrigger
from controller.domain.phases import CANCELLED, DONE

CANCELS: Final = 5  # times that a task which is ended tries to cancel its run
TTL_S: Final = 300.0  # of the lease, longer than a restart of Airflow


def results() -> Path:
    """Return the folder of campaigns.

    Raises:
        AirflowFailException: nobody has named one.
    """
    folder = results_folder()
    if folder is None:
        raise AirflowFailException(f"set {RESULTS} for Airflow's workers: a folder that all see")
    return folder


def need_triggerer() -> None:
    """Raise unless a triggerer runs, without which a deferred task waits for ever. Where Airflow's
    API cannot be asked, nothing is known and nothing happens.

    Raises:
        AirflowException: none does.
    """
    url = conf.get("core", "execution_api_server_url", fallback="") or conf.get("api", "base_url")
    try:
        answer = httpx.get(f"{url.split('/execution')[0]}/api/v2/monitor/health", timeout=TIMEOUT_S)
        status = answer.raise_for_status().json()["triggerer"]["status"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return
    if status != "healthy":
        raise AirflowException(
            "no triggerer runs, and a deferred task would wait for ever: start one "
            "(`airflow triggerer`; `make airflow` starts all), then clear this task"
        )


class EdgelmOperator(BaseOperator):
    """A task that runs commands of edgelm, and ends them when it is ended."""

    ui_color = "#e8f0fb"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._command = Command()

    def on_kill(self) -> None:
        self._command.end()

    def _run(self, arguments: Sequence[str], *, fails: Sequence[int] = ()) -> Any:
        """Return the JSON that a command prints. ``fails``: exit codes besides 0 with which it
        prints its result too."""
        try:
            return self._command.run([*map(str, arguments)], self.log, fails=fails)
        except CommandFailed as error:
            if error.code == BAD_INPUT:
                raise AirflowFailException(str(error)) from error
            raise AirflowException(str(error)) from error


class EdgelmCampaignOperator(EdgelmOperator):
    """Make some of the runs of a planned campaign on the twin. Finished ones are kept, so another
    try, or another worker, goes on.

    Args:
        folder: of the campaign, as `edgelm plan` has written it.
        runs: ids of the runs.
        row: for people; the name of a mapped task.
        jobs: runs at once.
    """

    template_fields: Sequence[str] = ("folder", "runs", "row")
    operator_extra_links = (ReportLink(),)

    def __init__(
        self, *, folder: str, runs: Sequence[str], row: str = "", jobs: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.folder, self.runs, self.row, self.jobs = folder, runs, row, jobs

    def execute(self, context: Context) -> Any:
        del context
        only = ",".join(self.runs)
        found = self._run(["run", self.folder, "--only", only, "--jobs", str(self.jobs)])
        self.log.info(
            "%d of %d runs are done, %d of them now", found["done"], found["runs"], found["made"]
        )
        return {name: found[name] for name in ("folder", "runs", "done", "made")}


class EdgelmEpochOperator(EdgelmOperator):
    """Make runs of a planned campaign on a testbed, one after the other.

    A run is begun by its id, so that another try finds it; then the task is deferred until the
    controller says that it is over; then its files are collected. Between them nothing but the
    folder and the controller knows how far this is.

    Args:
        folder: of the campaign, as `edgelm plan` has written it.
        runs: ids of the runs.
        holder: who has the testbed: the same for all tasks of a campaign.
        row: for people; the name of a mapped task.
        time_scale: seconds of a run per real second; "" for the connection's.
        run_timeout: for one run, from its begin to its end.
        testbed_timeout: to wait for a testbed that somebody else has.
    """

    template_fields: Sequence[str] = (
        "folder", "runs", "holder", "row", "time_scale", "edgelm_conn_id",
    )  # fmt: skip
    operator_extra_links = (ReportLink(), StatusLink())

    def __init__(
        self, *, folder: str, runs: Sequence[str], holder: str, row: str = "",
        time_scale: str = "", edgelm_conn_id: str = DEFAULT,
        run_timeout: timedelta = timedelta(hours=12),
        testbed_timeout: timedelta = timedelta(days=2), **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.folder, self.runs, self.holder, self.row = folder, runs, holder, row
        self.time_scale, self.edgelm_conn_id = time_scale, edgelm_conn_id
        self.run_timeout, self.testbed_timeout = run_timeout, testbed_timeout
        self._begun: tuple[str, str] | None = None  # a run's id and token, not deferred yet

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Begin the first run that the folder lacks, and defer until it is over."""
        del event  # the testbed is free: who asks first has it
        pending = [run for run in self.runs if not (Path(self.folder) / "runs" / run).is_dir()]
        if not pending:
            return {"folder": self.folder, "runs": len(self.runs)}
        return self._make(pending[0], _attempt(context))

    def _make(self, run: str, attempt: int) -> NoReturn:
        """Begin a run and defer until it is over, or until the testbed is free for it."""
        need_triggerer()
        hook = EdgelmHook(self.edgelm_conn_id)
        lease = self._ask(hook, "PUT", "/v1/lease", {"holder": self.holder, "ttl_s": TTL_S})
        if lease.status_code == httpx.codes.CONFLICT:
            self._wait_for_testbed(hook, run, f"the testbed is {problem_of(lease)}")
        token = f"{self._accepted(lease)['fence']}.{attempt}"
        self._begun = run, token  # before it is: its answer may be lost
        begun = self._begin(hook, run, token)
        if begun.status_code == httpx.codes.CONFLICT:
            self._wait_for_testbed(hook, run, problem_of(begun))
        found = self._accepted(begun)
        if found["phase"] == DONE:
            self.log.info("run %s was made before, at %g times the speed", run, found["speed"])
        until = datetime.now(UTC) + self.run_timeout
        trigger = RunTrigger(
            hook.testbed.document(), run, token, self.holder, TTL_S, until.timestamp()
        )
        self.defer(trigger=trigger, method_name="finish_run", timeout=2 * self.run_timeout)

    def finish_run(self, context: Context, event: dict[str, Any]) -> Any:
        """Collect a run that is over, and begin the next one."""
        if event.get("ended_by") == "lease":
            self.log.warning("the run was cancelled: %s; it is begun again", event["problem"])
            return self.execute(context)
        if event["phase"] == CANCELLED:
            raise AirflowFailException(
                f"the run was cancelled: {event['problem'] or 'by a person'}"
            )
        if event["phase"] != DONE:
            raise AirflowException(f"the run is {event['phase']}: {event['problem']}")
        testbed = EdgelmHook(self.edgelm_conn_id).testbed
        self._run(["collect", self.folder, "--only", event["id"], *testbed.options()])
        return self.execute(context)

    def on_kill(self) -> None:
        """End what runs here: a command, or a run that has no trigger yet."""
        super().on_kill()
        if self._begun is None:
            return
        run, token = self._begun
        for _ in range(CANCELS):
            with contextlib.suppress(httpx.HTTPError):
                hook = EdgelmHook(self.edgelm_conn_id)
                answer = hook.ask("POST", f"/v1/runs/{run}/cancel", token=token)
                if not answer.is_server_error:
                    return
            time.sleep(1.0)

    def _begin(self, hook: EdgelmHook, run: str, token: str) -> httpx.Response:
        """Ask the controller for a run, with the trace that it plays."""
        experiment = (Path(self.folder) / "experiments" / f"{run}.json").read_text()
        for trace in (Path(self.folder) / "traces").glob("*.csv"):
            if trace.stem in experiment:
                path = f"/v1/traces/{trace.stem}"
                self._accepted(self._ask(hook, "PUT", path, content=trace.read_bytes()))
        speed = float(self.time_scale) if self.time_scale else hook.testbed.time_scale
        body = {"experiment": experiment, "speed": speed}
        return self._ask(hook, "PUT", f"/v1/runs/{run}", body, token=token)

    def _wait_for_testbed(self, hook: EdgelmHook, run: str, reason: str) -> NoReturn:
        self.log.info("run %s waits: %s", run, reason)
        trigger = FreeTestbedTrigger(hook.testbed.document(), self.holder, run)
        self.defer(trigger=trigger, method_name="execute", timeout=self.testbed_timeout)

    def _ask(
        self, hook: EdgelmHook, method: str, path: str, body: Any = None, **more: Any
    ) -> httpx.Response:
        try:
            return hook.ask(method, path, body=body, **more)
        except httpx.HTTPError as error:
            raise AirflowException(
                f"the controller at {hook.testbed.url} does not answer: {error!r}; look at "
                f"`edgelm doctor {' '.join(hook.testbed.options())}`"
            ) from error

    def _accepted(self, answer: httpx.Response) -> Any:
        """Return what the controller answers.

        Raises:
            AirflowException: its store is away: later it may accept.
            AirflowFailException: it refuses, and would again.
        """
        if answer.is_success:
            return answer.json()
        said = f"the controller refuses ({answer.status_code}): {problem_of(answer)}"
        if answer.is_server_error:
            raise AirflowException(said)
        raise AirflowFailException(said)


def _attempt(context: Context) -> int:
    """Return a number that grows from attempt to attempt, over all tasks that may make a run: the
    millisecond in which this one began."""
    return int(context["ti"].start_date.timestamp() * 1000)


class EdgelmReleaseOperator(BaseOperator):
    """Give a testbed back. If somebody else has it by now, nothing happens.

    Args:
        holder: who has it; "" for nobody, which skips the task.
    """

    template_fields: Sequence[str] = ("holder", "edgelm_conn_id")

    def __init__(self, *, holder: str, edgelm_conn_id: str = DEFAULT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.holder, self.edgelm_conn_id = holder, edgelm_conn_id

    def execute(self, context: Context) -> Any:
        del context
        if not self.holder:
            raise AirflowSkipException("the campaign has used no testbed")
        hook = EdgelmHook(self.edgelm_conn_id)
        hook.ask("DELETE", "/v1/lease", params={"holder": self.holder}).raise_for_status()

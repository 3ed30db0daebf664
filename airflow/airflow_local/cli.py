"""start, stop, status and run: what ``make airflow`` and its companions call."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from airflow_local import components, processes, supervisor
from airflow_local.home import USER, VISIBLE_S, Settings, StartError
from airflow_local.supervisor import AlreadyRunning, Supervisor

ROOT: Final = Path(__file__).parents[2]
CONTROL: Final = ROOT / "airflow" / "control.py"

_DEFAULT_PORT: Final = 8080
_SHOWN_LINES: Final = 5  # of an import error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = argparse.ArgumentParser(prog="airflow/control.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start Airflow in the background, return when it is well")
    run = commands.add_parser("run", help="run Airflow in the foreground until TERM or Ctrl-C")
    run.add_argument("--ready-fd", type=int, help="tell this file descriptor when all is well")
    commands.add_parser("stop", help="end everything")
    commands.add_parser("status", help="show what runs")
    given = parser.parse_args(arguments)
    try:
        settings = settings_of(os.environ)
        if given.command == "run":
            return _run(settings, given.ready_fd)
        return {"start": _start, "stop": _stop, "status": _status}[given.command](settings)
    except AlreadyRunning as error:
        say(f"Airflow is running already: {error} (make airflow-status, make airflow-stop)")
        return 0
    except StartError as error:
        print(f"airflow: {error}", file=sys.stderr)
        return 1


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return the settings that an environment asks for. Raises StartError if they cannot be had."""
    program = ROOT / ".venv-airflow" / "bin" / "airflow"
    if not program.exists():
        raise StartError("no .venv-airflow; build it: make airflow-setup")
    port = environ.get("AIRFLOW__API__PORT") or str(_DEFAULT_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise StartError(f"AIRFLOW__API__PORT={port}: want a port, as 8081")
    edgelm = environ.get("EDGELM_COMMAND") or str(ROOT / ".venv" / "bin" / "edgelm")
    results = Path(environ.get("EDGELM_RESULTS") or ROOT / "results").resolve()
    return Settings(
        home=Path(environ.get("AIRFLOW_HOME") or ROOT / "airflow" / "home").resolve(),
        dags=Path(environ.get("AIRFLOW__CORE__DAGS_FOLDER") or ROOT / "dags").resolve(),
        program=program,
        port=int(port),
        parallelism=os.cpu_count() or 1,
        environment={"EDGELM_COMMAND": edgelm, "EDGELM_RESULTS": str(results)},
    )


def say(text: str) -> None:
    print(text, flush=True)


def _run(settings: Settings, ready_fd: int | None) -> int:
    """Run until TERM. Tell ``ready_fd`` when all is well, and write to the log from then on."""

    def ready(errors: Mapping[str, str], new_password: bool) -> None:
        _greet(settings, errors, new_password)
        if ready_fd is not None:
            with (settings.logs / "supervisor.log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.write(ready_fd, b"1" if errors else b"0")
            os.close(ready_fd)

    return 0 if Supervisor(settings, say).run(ready) else 1


def _start(settings: Settings) -> int:
    """Start a supervisor in a session of its own and wait until it says that all is well."""
    if supervisor.holder(settings) is not None:
        raise AlreadyRunning(settings.url)
    reads, writes = os.pipe()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, str(CONTROL), "run", "--ready-fd", str(writes)],
        stdin=subprocess.DEVNULL, pass_fds=[writes], start_new_session=True,
    )  # fmt: skip
    os.close(writes)
    try:
        answer = os.read(reads, 1)  # nothing if it ended instead
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 130
    return int(answer) if answer else process.wait()


def _stop(settings: Settings) -> int:
    """End the supervisor and what it has started, or what it has left if it is gone."""
    holder = supervisor.holder(settings)
    if holder is not None:
        processes.end_alone(holder)
    left = components.end_all(settings)
    say(f"Airflow {'has ended' if holder or left else 'does not run'} ({settings.home})")
    return 0


def _status(settings: Settings) -> int:
    """Show each component with its memory; return 1 unless all are well."""
    runs = supervisor.holder(settings) is not None
    say(f"Airflow {f'runs: {settings.url}' if runs else 'does not run'} ({settings.home})")
    noted = processes.read(components.records(settings))
    sick = components.unwell(settings, components.COMPONENTS) if runs else []
    for name, record in sorted(noted.items()):
        state = "is not well" if name in sick else "is well"
        if not record.alive():
            state = "has ended" if runs else "has ended, and left processes: make airflow-stop"
        say(f"  {name:13} pid {record.pid}, {processes.memory_mb(record):.0f} MB, {state}")
    return 0 if runs and not sick else 1


def _greet(settings: Settings, errors: Mapping[str, str], new_password: bool) -> None:
    """Say where Airflow is, and which DAG files do not load. A password is printed once."""
    for file, error in errors.items():
        lines = "\n".join(f"    {line}" for line in error.splitlines()[-_SHOWN_LINES:])
        print(f"airflow: {settings.dags / file} does not load:\n{lines}", file=sys.stderr)
    shown = f"password {settings.password()}, kept in" if new_password else "password in"
    say(
        f"Airflow runs: {settings.url}\n"
        f"  user {USER}, {shown} {settings.password_file}\n"
        f"  DAGs in {settings.dags}; an edit shows within {VISIBLE_S} s\n"
        f"  logs in {settings.logs}\n"
        f"  make airflow-status shows it, make airflow-stop ends it"
    )

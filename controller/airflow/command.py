"""edgelm's commands, run by tasks: progress goes to the task's log, the result is JSON."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

from controller.airflow.settings import edgelm_command

BAD_INPUT: Final = 2  # exit code of edgelm: another try would not help
GRACE_S: Final = 20.0  # from TERM to KILL
LAST: Final = 5  # lines of the log that an error quotes


class Log(Protocol):
    """A logger, Airflow's or Python's."""

    def info(self, message: str, /, *values: Any) -> Any: ...

    def warning(self, message: str, /, *values: Any) -> Any: ...


class CommandFailed(Exception):
    """A command of edgelm that failed: ``code`` is its exit code, the text its last words."""

    def __init__(self, code: int, said: str) -> None:
        self.code = code
        super().__init__(said or f"exit code {code}")


class Command:
    """One command of edgelm, in a process group of its own so that all of it can be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], log: Log, *, fails: Sequence[int] = ()) -> Any:
        """Return the JSON that the command prints, its lines of progress in the log.

        Args:
            fails: exit codes besides 0 with which it prints its result too.

        Raises:
            CommandFailed: it ended with another exit code, or printed no JSON.
        """
        log.info("edgelm %s", " ".join(arguments))
        process = subprocess.Popen(  # noqa: S603 - our own command
            [edgelm_command(), *arguments, "--json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True, env=_environment(),
        )  # fmt: skip
        self._process = process
        last: deque[str] = deque(maxlen=LAST)
        telling = threading.Thread(target=_tell, args=(process, log, last), daemon=True)
        telling.start()
        assert process.stdout is not None  # noqa: S101 - a pipe
        printed = process.stdout.read()
        code = process.wait()
        telling.join()
        self._process = None
        if code != 0 and code not in fails:
            raise CommandFailed(code, "\n".join(last))
        try:
            return json.loads(printed)
        except ValueError as error:
            raise CommandFailed(code, f"printed no JSON: {printed[:300]!r}") from error

    def end(self) -> None:
        """End the command and all that it started: TERM, and KILL for what does not obey."""
        process = self._process
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        _signal_group(process, signal.SIGKILL)


def _tell(process: subprocess.Popen[str], log: Log, last: deque[str]) -> None:
    assert process.stderr is not None  # noqa: S101 - a pipe
    for line in process.stderr:
        if line.strip():
            last.append(line.rstrip())
            log.info("%s", line.rstrip())


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _environment() -> dict[str, str]:
    """Return the environment without what belongs to Airflow's own Python."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in ours}

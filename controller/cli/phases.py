"""How a bring-up goes on, on a terminal and in a file: one line a phase, and what changes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from controller.bringup.phases import Phase, Result

LOUD: Final = ("changed", "failed", "unreachable")


class PlainDisplay:
    """Plain lines on standard error, for files and other programs."""

    def begin(self, number: int, of: int, phase: Phase) -> None:
        self._say(f"[{number}/{of}] {phase.name}: {phase.title}")

    def task(self, name: str) -> None:
        del name

    def result(self, host: str, task: str, state: str) -> None:
        if state in LOUD:
            self._say(f"  {state}  {host}: {task}")

    def end(self, result: Result) -> None:
        self._say(f"  {summary(result)}")

    def _say(self, line: str) -> None:
        typer.echo(line, err=True)


class LiveDisplay:
    """A terminal's last line shows the task at hand and how many hosts have done it; finished
    phases stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.status import Status

        self._console = Console(stderr=True)
        self._status = Status("", console=self._console)
        self._head, self._task, self._done = "", "", 0

    def begin(self, number: int, of: int, phase: Phase) -> None:
        self._head, self._task, self._done = f"[{number}/{of}] {phase.name}", "", 0
        self._console.print(f"{self._head}: {phase.title}", markup=False, style="bold")
        self._status.start()

    def task(self, name: str) -> None:
        self._task, self._done = name, 0
        self._show()

    def result(self, host: str, task: str, state: str) -> None:
        self._done += 1
        if state in LOUD:
            style = "yellow" if state == "changed" else "red"
            self._console.print(f"  {state}  {host}: {task}", markup=False, style=style)
        self._show()

    def end(self, result: Result) -> None:
        self._status.stop()
        self._console.print(f"  {summary(result)}", markup=False)

    def _show(self) -> None:
        from rich.markup import escape

        done = f" ({self._done} hosts)" if self._done > 1 else ""
        self._status.update(escape(f"{self._head}  {self._task}{done}"))


def summary(result: Result) -> str:
    """Return a phase's result in a line."""
    if result.skipped:
        return f"skipped: {result.skipped}"
    changes = sum(result.changed.values())
    word = "done" if result.ok else ("stopped" if result.cancelled else "FAILED")
    away = f", not reached: {', '.join(result.unreachable)}" if result.unreachable else ""
    return f"{word}: changed {changes}, {result.seconds:.0f} s{away}"

"""How far a campaign is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO


class Progress(Protocol):
    """Told about every run that ends. A context manager around the whole."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin(self, total: int, finished: int) -> None:
        """``finished`` of ``total`` runs are there already."""

    def ended(self, label: str, wall_s: float, error: str) -> None:
        """A run is over; ``error`` is empty if it is done."""

    def confirm(self, text: str) -> bool:
        """A person says yes to ``text``. Without one: no."""


class Silence:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, total: int, finished: int) -> None: ...

    def ended(self, label: str, wall_s: float, error: str) -> None: ...

    def confirm(self, text: str) -> bool:
        del text
        return False


class Lines:
    """A line per run, for logs and pipes."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._total = self._finished = self._before = 0
        self._started_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, total: int, finished: int) -> None:
        self._total, self._finished, self._before = total, finished, finished
        self._started_s = time.monotonic()
        kept = f", {finished} finished before" if finished else ""
        self._say(f"{total} runs{kept}")

    def ended(self, label: str, wall_s: float, error: str) -> None:
        self._finished += 1
        width = len(str(self._total))
        result = f"FAILED: {error}" if error else f"{wall_s:.2f} s"
        self._say(f"[{self._finished:{width}}/{self._total}] {label}: {result}{self._left()}")

    def confirm(self, text: str) -> bool:
        return _asked(text)

    def _left(self) -> str:
        made, left = self._finished - self._before, self._total - self._finished
        if not made or not left:
            return ""
        left_s = (time.monotonic() - self._started_s) / made * left
        return f", about {left_s:.0f} s to go"

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class Bar:
    """A bar with the time to go, failures listed above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("to go"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", style="dim"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, total: int, finished: int) -> None:
        self._bar.update(self._task, total=total, completed=finished)

    def ended(self, label: str, wall_s: float, error: str) -> None:
        if error:
            self._bar.console.print(f"[red]failed[/] {label}: {error}", highlight=False)
        self._bar.update(self._task, advance=1, description=f"{label}, {wall_s:.1f} s")

    def confirm(self, text: str) -> bool:
        self._bar.stop()
        try:
            return _asked(text)
        finally:
            self._bar.start()


def _asked(text: str) -> bool:
    """Ask on the terminal; no where there is none, or on an end of input."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"\n{text} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def fitting(*, quiet: bool = False) -> Progress:
    """The bar on a terminal, lines elsewhere; nothing if ``quiet``."""
    if quiet:
        return Silence()
    return Bar() if sys.stderr.isatty() else Lines()

"""The progress of a campaign: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from textwrap import wrap
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from controller.domain.errors import Permanent
from controller.domain.words import printable

NOBODY: Final = "nobody is at a terminal to approve a policy"
QUIET_S: Final = 30.0  # after which a log says how far a run is


class Progress(Protocol):
    """Display of a campaign's progress, and prompt for its user's approval. A context manager
    around the whole campaign."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin(self, finished: int, strategies: Iterable[str], jobs: int) -> None:
        """Show the start: ``finished`` runs are done, runs of these ``strategies`` are not, and
        ``jobs`` run in parallel."""

    def note(self, text: str) -> None:
        """Show a sentence that the person should know."""

    def ended(self, strategy: str, title: str, wall_s: float, error: str) -> None:
        """Show the end of a run; ``error`` is empty if it is done."""

    def advanced(self, title: str, far: str) -> None:
        """Show how far a run is."""

    def confirm(self, text: str) -> bool:
        """Ask the person and return True for a yes.

        Raises:
            Permanent: there is no interactive terminal to ask on.
        """


class TimeToGo:
    """Estimate of a campaign's remaining time: over the remaining runs, the sum of the mean
    duration of their strategy, or of all strategies if it has none yet, divided by the parallel
    jobs. One mean for all would mislead: agents take far longer than random choice."""

    def __init__(self, strategies: Iterable[str], jobs: int) -> None:
        self._left = Counter(strategies)
        self._made: Counter[str] = Counter()
        self._took_s: defaultdict[str, float] = defaultdict(float)
        self._jobs = jobs

    @property
    def left(self) -> int:
        """Number of runs to go."""
        return self._left.total()

    def record(self, strategy: str, wall_s: float) -> None:
        """Record the end of a run; 0 s if it failed or was done by another process, which says
        nothing about other runs."""
        self._left[strategy] -= 1
        if wall_s > 0:
            self._made[strategy] += 1
            self._took_s[strategy] += wall_s

    def text(self) -> str:
        """Return ", about 40 s to go", or "" if nothing is left or nothing is known."""
        if not self.left or not self._made:
            return ""
        mean_s = sum(self._took_s.values()) / self._made.total()
        expected_s = sum(
            count * (self._took_s[name] / self._made[name] if self._made[name] else mean_s)
            for name, count in self._left.items()
        )
        return f", about {rounded(expected_s / min(self._jobs, self.left))} to go"


def rounded(time_s: float) -> str:
    """Return a duration in the unit that fits it."""
    if time_s < 100:
        return f"{time_s:.0f} s"
    return f"{time_s / 60:.0f} min" if time_s < 6000 else f"{time_s / 3600:.1f} h"


class Silence:
    """A progress that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, finished: int, strategies: Iterable[str], jobs: int) -> None: ...

    def note(self, text: str) -> None: ...

    def ended(self, strategy: str, title: str, wall_s: float, error: str) -> None: ...

    def advanced(self, title: str, far: str) -> None: ...

    def confirm(self, text: str) -> bool:
        raise Permanent(f"{NOBODY}: {text.splitlines()[0]}")


class Lines:
    """A progress of one line per run, for logs and pipes, and the state of a run after
    QUIET_S without output."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._written_s = time.monotonic()
        self._total = 0
        self._to_go = TimeToGo((), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, finished: int, strategies: Iterable[str], jobs: int) -> None:
        self._to_go = TimeToGo(strategies, jobs)
        self._total = finished + self._to_go.left
        kept = f", {finished} finished before" if finished else ""
        self._write(f"{self._total} {'run' if self._total == 1 else 'runs'}{kept}")

    def note(self, text: str) -> None:
        self._write(text)

    def ended(self, strategy: str, title: str, wall_s: float, error: str) -> None:
        self._to_go.record(strategy, wall_s)
        number = f"{self._total - self._to_go.left:{len(str(self._total))}}/{self._total}"
        result = f"FAILED: {error}" if error else f"{wall_s:.2f} s"
        self._write(f"[{number}] {title}: {result}{self._to_go.text()}")

    def advanced(self, title: str, far: str) -> None:
        now_s = time.monotonic()
        if now_s - self._written_s >= QUIET_S:
            self._write(f"{title}: {far}")

    def confirm(self, text: str) -> bool:
        return _asked(text)

    def _write(self, line: str) -> None:
        self._written_s = time.monotonic()
        with contextlib.suppress(OSError):  # a closed pipe must not end the campaign
            print(printable(line), file=self._out, flush=True)


class Bar:
    """A progress bar with the time to go; notes and failures are listed above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", style="dim", markup=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("starting", total=None)
        self._to_go = TimeToGo((), 1)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, finished: int, strategies: Iterable[str], jobs: int) -> None:
        self._to_go = TimeToGo(strategies, jobs)
        total = finished + self._to_go.left
        self._bar.update(self._task, total=total, completed=finished, description="first runs")

    def note(self, text: str) -> None:
        self._bar.console.print(printable(text), highlight=False, markup=False)

    def ended(self, strategy: str, title: str, wall_s: float, error: str) -> None:
        from rich.markup import escape

        self._to_go.record(strategy, wall_s)
        if error:
            failed = f"[red]failed[/] {escape(printable(title))}: {escape(printable(error))}"
            self._bar.console.print(failed, highlight=False)
        last = f"{title}, {wall_s:.1f} s{self._to_go.text()}"
        self._bar.update(self._task, advance=1, description=printable(last))

    def advanced(self, title: str, far: str) -> None:
        self._bar.update(self._task, description=printable(f"{title}: {far}{self._to_go.text()}"))

    def confirm(self, text: str) -> bool:
        self._bar.stop()
        try:
            return _asked(text)
        finally:
            self._bar.start()


def has_person() -> bool:
    """Return True if a person at a terminal would see a question and could answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(text: str) -> bool:
    """Ask on the terminal and return True for a yes; an end of input is a no.

    Raises:
        Permanent: there is no interactive terminal.
    """
    if not has_person():
        raise Permanent(f"{NOBODY}: {text.splitlines()[0]}")
    width = shutil.get_terminal_size().columns
    lines = [wrap(line, width, subsequent_indent="    ") for line in text.splitlines()]
    sys.stderr.write("\n" + "\n".join(part for parts in lines for part in parts) + " [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def choose_progress(*, quiet: bool = False) -> Progress:
    """Return the bar on a terminal, lines elsewhere, silence if ``quiet``."""
    if quiet:
        return Silence()
    return Bar() if sys.stderr.isatty() else Lines()

"""The calls that a run's agents have made and make, in memory or in a file that outlives a kill."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from controller.agents.approval import Approver
from controller.agents.lines import notes_of, read_lines, sorted_lines, whole_lines
from controller.campaigns.experiment import Experiment


@dataclass
class RunTranscript:
    """The calls of a run: ``former`` ones answer again, new ones are written to ``out``.
    ``silent``: no new ones are made. ``cache``: folder for what several runs have in common."""

    former: Sequence[str] = ()
    out: TextIO = field(default_factory=io.StringIO)
    silent: bool = False
    cache: Path | None = None
    approver: Approver | None = None

    def lines(self) -> str:
        """Return all calls in their final order."""
        self.out.seek(0)
        return "".join(sorted_lines([*self.former, *self.out.readlines()]))


@contextlib.contextmanager
def transcript_kept_at(path: Path, cache: Path, approver: Approver) -> Iterator[RunTranscript]:
    """Append a run's transcript to the file ``path``, after those that it holds already.

    Raises:
        InputError: it holds what is no text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.is_file() else b""
    former = whole_lines(content)
    with path.open("a+", encoding="utf-8", newline="\n") as out:
        path.chmod(0o600)
        out.truncate(content.rfind(b"\n") + 1)  # a kill may have cut the last line short
        yield _Appended(former, out, cache=cache, approver=approver)


def merged_transcript(contents: Iterable[bytes]) -> str:
    """Return one transcript of several processes' in its final order.

    A process that restarted has written its head again, and asked again what it had no answer to:
    each line stands once, and of two calls of one place the first.
    """
    placed: dict[tuple[Any, ...], str] = {}
    for content in contents:
        for text, line in read_lines(whole_lines(content)):
            placed.setdefault(line.place(), text)
    return "".join(sorted_lines(placed.values()))


def described(experiment: Experiment, transcript: str | None) -> dict[str, Any] | None:
    """Return the reasoner of a run for its summary, with what its transcript notes of the server;
    None without agents."""
    if experiment.reasoner is None:
        return None
    notes = notes_of((transcript or "").splitlines(keepends=True))
    return {**experiment.reasoner.described(), **({"notes": notes} if notes else {})}


class _Appended(RunTranscript):
    """The file holds the former calls too."""

    def lines(self) -> str:
        self.out.seek(0)
        return "".join(sorted_lines(self.out.readlines()))

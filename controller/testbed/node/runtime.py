"""Runtimes of a node's pods: processes of its machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import aiohttp

from controller.domain.scenario import Scenario
from controller.testbed.node.pods import Resize, Start

# LM and resources, its folder -> arguments of lm_server, but for the folder and the port.
Engine = Callable[[Start, Path], Sequence[str]]


class PodNews(Enum):
    """News of a pod from its runtime."""

    WAITING = "waiting"  # submitted, and its cluster has no room
    PLACED = "placed"  # no longer
    READY = "ready"
    LOST = "lost"  # it was ready, and comes back by itself
    GONE = "gone"  # asked to or not: to be started anew if it is wanted
    RESIZED = "resized"  # has the cores that were asked for
    NOT_RESIZED = "not resized"  # has those of before


Listener = Callable[[int, PodNews], None]  # with the LM


class PodRuntime(Protocol):
    """The pods of one node in one run. Commands return at once; the listener hears the rest."""

    async def prepare(self) -> dict[int, Start]:
        """Make ready for commands; return the pods that a former process left running."""
        ...

    def adopt(self, start: Start) -> None:
        """Watch a pod that :meth:`prepare` has found."""
        ...

    def start(self, start: Start) -> None: ...

    def stop(self, lm: int) -> None: ...

    def resize(self, resize: Resize) -> None: ...

    def url_of(self, lm: str) -> str | None:
        """Return the address of an LM's server that is ready."""
        ...

    def reasons(self) -> dict[str, str]:
        """Return, for LMs whose pod does not become ready, why."""
        ...

    def gpus_of(self, lm: int, meant: Sequence[int]) -> Sequence[int] | None:
        """Return the physical GPUs of an LM's pod, None if they are not known. ``meant``: those
        that the node has in mind for it."""
        ...

    async def close(self) -> None:
        """End everything, pods as well."""
        ...


@dataclass(frozen=True, slots=True)
class RunOnNode:
    """A run as the runtime of a node's pods knows it.

    Args:
        run_id: with its incarnation.
        folder: of the run's state on this node.
        speed: seconds of the run per real second.
    """

    session: aiohttp.ClientSession
    run_id: str
    scenario: Scenario
    row: int
    folder: Path
    speed: float
    engine: Engine
    listener: Listener


MakeRuntime = Callable[[RunOnNode], PodRuntime]

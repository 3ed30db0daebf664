"""A testbed of real services on this machine, for tests: started, hurt, looked into."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from controller.bootstrap.cluster import Address, execute
from controller.bootstrap.holding import held
from controller.campaigns.experiment import Experiment
from controller.campaigns.pool import Listener
from controller.testbed.node.events import Restarted
from controller.testbed.node.instructions import CloseRecord
from controller.testbed.node.log import from_line
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.settings import NodeSettings
from tests.samples.small import small_experiment

SPEED = 30.0


def live_experiment(**changes: Any) -> Experiment:
    """Eight slots of the paper's load on its six nodes, a deadline of ten slots."""
    content = {"target": "emulated", "epoch_slots": 8, "tau_s": 300.0, **changes}
    return small_experiment(**content)


def quiet() -> Listener:
    return Listener(lambda text: False, lambda run, advance: None)


def make_run(one: Experiment, folder: Path, testbed: Address) -> dict[str, bytes]:
    """Make a run on a testbed that nobody else has; return its files."""
    with held(testbed, "a test") as mine:
        return dict(execute(one.canonical_json(), folder, quiet(), mine))


def processes(folder: Path, words: Sequence[str]) -> list[int]:
    """Ids of the services of this folder whose command has these words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder) in word for word in command) and set(words) <= set(command):
            found.append(int(place.name))
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of processor time that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def servers(folder: Path) -> list[int]:
    """Ids of the LM servers that run."""
    found = []
    for card in folder.glob("*/runs/*/pods/*/pod.json"):
        try:
            found.append(int(json.loads(card.read_text())["pid"]))
        except (OSError, ValueError):
            continue
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Attacker:
    """Kills processes of a testbed, drawn by chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, random.Random(seed)  # noqa: S311 - no secret
        self.killed: Counter[str] = Counter()

    def kinds(self) -> Iterator[tuple[str, list[int]]]:
        yield "node", processes(self._folder, ["node"])
        yield "controller", processes(self._folder, ["controller"])
        yield "player", processes(self._folder, ["player"])
        yield "server", servers(self._folder)
        workers = [one for pid in servers(self._folder) for one in children(pid)]
        yield "worker", workers
        yield "stopped worker", workers

    def strike(self) -> None:
        """Kill one process of a kind drawn by chance, or stop a worker in its tracks."""
        kind, found = self._rng.choice(list(self.kinds()))
        if not found:
            return
        number = signal.SIGSTOP if kind == "stopped worker" else signal.SIGKILL
        try:
            os.kill(self._rng.choice(found), number)
        except ProcessLookupError:
            return
        self.killed[kind] += 1

    def pause(self, mean_s: float) -> None:
        time.sleep(self._rng.expovariate(1 / mean_s))


def results_taken(folder: Path, run_id: str) -> Counter[int]:
    """How often the origin of each request has closed it with a result, by replay of its log."""
    taken: Counter[int] = Counter()
    for path in folder.glob(f"*/runs/{run_id}.*/node.sqlite"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            lines = [line for (line,) in database.execute("SELECT line FROM events")]
        scenario = live_experiment().scenario()
        name = path.parts[-4]
        settings = NodeSettings(name, scenario.testbed.lm_names, scenario.slot_s, scenario.tau_s)
        machine = NodeMachine(settings)
        for event in map(from_line, lines):
            for one in machine.handle(event):
                # A restart issues again what may not have been written: that closes nothing.
                if isinstance(one, CloseRecord) and not isinstance(event, Restarted):
                    taken[one.record.request.request_id] += one.record.success
    return taken

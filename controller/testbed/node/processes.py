"""Pods as processes of this machine: LM servers, started, watched, adopted and stopped.

They outlive a node service that is killed, as pods of Kubernetes do; the next one finds them by
what stands in their folders.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiohttp

from controller.testbed.node.pods import Resize, Start
from controller.testbed.node.runtime import PodNews, RunOnNode

LOOK_S: Final = 0.03  # real seconds between two looks at a process that starts or ends
WATCH_S: Final = 0.25  # at one that serves
PROBE_LOOKS: Final = 4  # looks from one liveness probe to the next
MOST_FAILURES: Final = 3  # probes in a row, after which a server is killed
KILL_S: Final = 30.0  # after TERM
TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)

log = logging.getLogger("edgelm.node")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one of the same id by the moment of its start."""

    pid: int
    since: str

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _since(pid))

    @property
    def is_alive(self) -> bool:
        return self.since != "" and _since(self.pid) == self.since

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_all(self) -> None:
        """Kill it with its children: one that hangs would not notice that its parent is gone."""
        for child in _children(self.pid) if self.is_alive else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.signal(signal.SIGKILL)


class Starter:
    """The process that forks servers (lm_server/starter.py), started when it is first needed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def start(self, arguments: Sequence[str], log_file: Path) -> int:
        """Start a server; return its process id."""
        order = json.dumps({"arguments": list(arguments), "log": str(log_file)})
        async with self._lock:
            while True:
                orders, answers = await self._pipes()
                orders.write(f"{order}\n".encode())
                if answer := await answers.readline():
                    return int(answer)

    async def prepare(self) -> None:
        """Let it import what servers need, before the first is needed."""
        async with self._lock:
            await self._pipes()

    async def _pipes(self) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """Return the pipes to a starter that lives and has imported."""
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lm_server.starter",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            if process.stdout is not None:
                await process.stdout.readline()  # it is ready
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the starter has no pipes")
        return process.stdin, process.stdout

    def close(self) -> None:
        """End it; the servers go on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


class PodProcesses:
    """The LM servers of one node, a folder per LM: checkpoint, results, and who runs."""

    def __init__(self, run: RunOnNode) -> None:
        self._session, self._folder = run.session, run.folder / "pods"
        self._names = run.scenario.testbed.lm_names
        self._engine, self._listener = run.engine, run.listener
        self._urls: dict[int, str] = {}
        self._starter = Starter()
        self._processes: dict[int, Process] = {}
        self._ports: dict[int, int] = {}
        self._stopping: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def url_of(self, lm: str) -> str | None:
        """Return the address of an LM's server that is ready."""
        return self._urls.get(self._names.index(lm))

    async def prepare(self) -> dict[int, Start]:
        """Make the first start as fast as the others; return the pods that a former process left
        running."""
        await self._starter.prepare()
        found = {}
        for i in range(len(self._names)):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                card = json.loads((self._of(i) / "pod.json").read_text())
                process = Process(card["pid"], card["since"])
                if process.is_alive:
                    self._processes[i], self._ports[i] = process, card["port"]
                    start = card["start"]
                    found[i] = Start(**{**start, "gpus": tuple(start["gpus"])})
        return found

    def adopt(self, start: Start) -> None:
        """Watch a pod that a former process started."""
        self._tasks[start.lm] = asyncio.create_task(self._watch(start.lm))

    def start(self, start: Start) -> None:
        self._tasks[start.lm] = asyncio.create_task(self._run(start))

    def stop(self, lm: int) -> None:
        self._stopping.add(lm)
        self._urls.pop(lm, None)
        if lm in self._processes:
            self._processes[lm].signal(signal.SIGTERM)
        if lm not in self._tasks or self._tasks[lm].done():
            self._tasks[lm] = asyncio.create_task(self._watch(lm))

    def resize(self, resize: Resize) -> None:
        """Refuse: a process has the cores of its machine."""
        self._listener(resize.lm, PodNews.NOT_RESIZED)

    def reasons(self) -> dict[str, str]:
        return {}

    def gpus_of(self, lm: int, meant: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """Return what was meant: a process has the GPUs that it is given."""
        return meant

    async def close(self) -> None:
        """End all processes at once."""
        for task in self._tasks.values():
            task.cancel()
        self._starter.close()
        for process in self._processes.values():
            process.kill_all()

    async def _run(self, start: Start) -> None:
        """Start a pod's process and watch it to its end."""
        folder = self._of(start.lm)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = await asyncio.to_thread(self._engine, start, folder)
        port = _free_port()
        pid = await self._starter.start(
            [*arguments, "--data", str(folder), "--port", str(port)], folder / "log.txt"
        )
        self._processes[start.lm], self._ports[start.lm] = Process.of(pid), port
        card = {"pid": pid, "since": self._processes[start.lm].since, "port": port}
        (folder / "pod.json").write_text(json.dumps({**card, "start": asdict(start)}))
        if start.lm in self._stopping:
            self._processes[start.lm].signal(signal.SIGTERM)
        await self._watch(start.lm)

    async def _watch(self, lm: int) -> None:
        """Tell when a pod becomes ready, and when it ends."""
        terminated_s, looks, failures = None, 0, 0
        process = self._processes[lm]
        while process.is_alive:
            if lm in self._stopping:
                terminated_s = terminated_s or asyncio.get_running_loop().time()
                if asyncio.get_running_loop().time() - terminated_s > KILL_S:
                    process.kill_all()
                await asyncio.sleep(LOOK_S)
            elif lm in self._urls:
                await asyncio.sleep(WATCH_S)
                looks += 1
                if looks % PROBE_LOOKS == 0:
                    failures = 0 if await self._affirms(lm, "/healthz") else failures + 1
                if failures == MOST_FAILURES:
                    log.warning("the server of %s hangs and is killed", self._names[lm])
                    process.kill_all()
            else:
                await self._look(lm)
                await asyncio.sleep(LOOK_S)
        self._urls.pop(lm, None)
        self._processes.pop(lm, None)
        (self._of(lm) / "pod.json").unlink(missing_ok=True)
        if lm not in self._stopping:
            log.warning("the server of %s died", self._names[lm])
        self._stopping.discard(lm)
        self._listener(lm, PodNews.GONE)

    async def _look(self, lm: int) -> None:
        """See whether a starting pod has become ready."""
        if await self._affirms(lm, "/readyz") and lm not in self._stopping:
            self._urls[lm] = self._address(lm)
            self._listener(lm, PodNews.READY)

    async def _affirms(self, lm: int, probe: str) -> bool:
        """Return False if the server denies what a probe asks, or does not answer."""
        try:
            async with self._session.get(self._address(lm) + probe, timeout=TIMEOUT) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _address(self, lm: int) -> str:
        return f"http://127.0.0.1:{self._ports[lm]}"

    def _of(self, lm: int) -> Path:
        return self._folder / self._names[lm]


def _free_port() -> int:
    """Return a port that is free now; a server that finds it taken ends, and is started again."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _since(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; "" if there is none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []

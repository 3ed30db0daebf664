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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from controller.testbed.node.pods import Start

LOOK_S: Final = 0.03  # real seconds between two looks at a process that starts or ends
WATCH_S: Final = 0.25  # at one that serves
KILL_S: Final = 30.0  # after TERM
TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)

# LM and resources -> arguments of lm_server, but for the folder and the port.
Engine = Callable[[Start, Path], Sequence[str]]
# LM, READY, GONE or DIED.
Listener = Callable[[int, str], None]
READY: Final = "ready"
GONE: Final = "gone"
DIED: Final = "died"

log = logging.getLogger("edgelm.node")


class PodProcesses:
    """The LM servers of one node.

    Args:
        folder: a folder per LM in it: checkpoint, results, and who runs.
        names: of the LMs.
        engine: says what serves a pod.
        listener: told when a pod is ready, or has ended.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        folder: Path,
        names: Sequence[str],
        engine: Engine,
        listener: Listener,
    ) -> None:
        self._session, self._folder, self._names = session, folder, names
        self._engine, self._listener = engine, listener
        self._urls: dict[int, str] = {}
        self._pids: dict[int, int] = {}
        self._ports: dict[int, int] = {}
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def url_of(self, lm: str) -> str | None:
        """Return the address of an LM's server that is ready."""
        return self._urls.get(self._names.index(lm))

    def running(self) -> dict[int, Start]:
        """Return the pods that a former process left running."""
        found = {}
        for i, name in enumerate(self._names):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                card = json.loads((self._of(i) / "pod.json").read_text())
                if _serves(card["pid"], self._folder / name):
                    self._pids[i], self._ports[i] = card["pid"], card["port"]
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
        if lm in self._pids:
            _signal(self._pids[lm], signal.SIGTERM)
        if lm not in self._tasks or self._tasks[lm].done():
            self._tasks[lm] = asyncio.create_task(self._watch(lm))

    def close(self) -> None:
        """End watching; the processes go on."""
        for task in self._tasks.values():
            task.cancel()

    def kill(self) -> None:
        """End all processes at once."""
        self.close()
        for pid in self._pids.values():
            _signal(pid, signal.SIGKILL)

    async def _run(self, start: Start) -> None:
        """Start a pod's process and watch it to its end."""
        folder = self._of(start.lm)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = await asyncio.to_thread(self._engine, start, folder)
        port = _free_port()
        with (folder / "log.txt").open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lm_server", *arguments,
                "--data", str(folder), "--port", str(port),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._children[start.lm], self._pids[start.lm] = child, child.pid
        card = {"pid": child.pid, "port": port, "start": _plain(start)}
        self._ports[start.lm] = port
        (folder / "pod.json").write_text(json.dumps(card))
        if start.lm in self._stopping:
            _signal(child.pid, signal.SIGTERM)
        await self._watch(start.lm)

    async def _watch(self, lm: int) -> None:
        """Tell when a pod becomes ready, and when it ends."""
        terminated_s = None
        while self._alive(lm):
            if lm in self._stopping:
                terminated_s = terminated_s or asyncio.get_running_loop().time()
                if asyncio.get_running_loop().time() - terminated_s > KILL_S:
                    _signal(self._pids[lm], signal.SIGKILL)
                await asyncio.sleep(LOOK_S)
            elif lm in self._urls:
                await asyncio.sleep(WATCH_S)
            else:
                await self._look(lm)
                await asyncio.sleep(LOOK_S)
        self._urls.pop(lm, None)
        self._pids.pop(lm, None)
        self._children.pop(lm, None)
        (self._of(lm) / "pod.json").unlink(missing_ok=True)
        if lm in self._stopping:
            self._stopping.discard(lm)
            self._listener(lm, GONE)
        else:
            log.warning("the server of %s died", self._names[lm])
            self._listener(lm, DIED)

    async def _look(self, lm: int) -> None:
        """See whether a starting pod has become ready."""
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            url = f"http://127.0.0.1:{self._ports[lm]}"
            async with self._session.get(f"{url}/readyz", timeout=TIMEOUT) as answer:
                if answer.status == 200 and lm not in self._stopping:
                    self._urls[lm] = url
                    self._listener(lm, READY)

    def _alive(self, lm: int) -> bool:
        child = self._children.get(lm)
        if child is not None:
            return child.returncode is None
        return lm in self._pids and _serves(self._pids[lm], self._of(lm))

    def _of(self, lm: int) -> Path:
        return self._folder / self._names[lm]


def _free_port() -> int:
    """Return a port that is free now; a server that finds it taken ends, and is started again."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _plain(start: Start) -> dict[str, Any]:
    return {
        "lm": start.lm,
        "mode": start.mode,
        "cores": start.cores,
        "vgpus": start.vgpus,
        "gpus": list(start.gpus),
    }


def _serves(pid: int, folder: Path) -> bool:
    """Return True if the process of this id is an LM server of this folder, not one that got the
    id later."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"lm_server" in words and os.fsencode(folder) in words


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

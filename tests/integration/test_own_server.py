"""The loss of a run's own reasoner is no model's bad reply: it is started anew and the call is made
again, so that nothing shows in the run; and where that cannot be, the run fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.agents.endpoint.answers import Failure, HttpAnswer
from controller.agents.endpoint.loopback import LoopbackTransport
from controller.domain.errors import Permanent
from controller.reference_model.completions import Latency
from controller.reference_model.process import KeptServer, Server, start_server
from tests.unit.reference_model.duets import messages

LATENCY = Latency()
BODY = json.dumps(
    {"model": "edgelm-reference", "messages": [{"role": "user", "content": "hello"}]}
).encode()
PATIENCE_S = 20.0


@contextmanager
def kept(faults: str = "") -> Iterator[KeptServer]:
    server = KeptServer(partial(start_server, LATENCY, faults))
    try:
        yield server
    finally:
        server.end()


def kill(server: KeptServer, sign: signal.Signals = signal.SIGKILL) -> int:
    os.kill(server.pid, sign)
    return server.pid


def ask(
    server: KeptServer, body: bytes = BODY, *, patience_s: float = PATIENCE_S
) -> HttpAnswer | Failure:
    async def once() -> HttpAnswer | Failure:
        transport = LoopbackTransport(server)
        try:
            return await transport.post("/chat/completions", body, patience_s)
        finally:
            await transport.close()

    return asyncio.run(once())


def is_good(answer: HttpAnswer | Failure) -> bool:
    return isinstance(answer, HttpAnswer) and b"chat.completion" in answer.body


def test_killed_before_the_first_call_it_is_started_anew() -> None:
    with kept() as server:
        before = kill(server)
        assert is_good(ask(server))
        assert server.pid != before


def test_killed_between_calls_that_share_a_connection() -> None:
    with kept() as server:

        async def calls() -> list[HttpAnswer | Failure]:
            transport = LoopbackTransport(server)
            answers = []
            for k in range(6):
                if k in (2, 4):
                    kill(server)
                answers.append(await transport.post("/chat/completions", BODY, PATIENCE_S))
            await transport.close()
            return answers

        assert all(map(is_good, asyncio.run(calls())))


def test_killed_during_concurrent_calls_it_is_started_once() -> None:
    """It is stopped first, so that the calls are surely on their way when it is killed."""
    with kept() as server:
        kill(server, signal.SIGSTOP)
        before = server.pid
        threading.Timer(0.5, kill, (server,)).start()

        async def calls() -> list[HttpAnswer | Failure]:
            transport = LoopbackTransport(server)
            answers = await asyncio.gather(
                *(transport.post("/chat/completions", BODY, PATIENCE_S) for _ in range(6))
            )
            await transport.close()
            return list(answers)

        assert all(map(is_good, asyncio.run(calls())))
        assert server.pid != before
        after = server.pid
        assert is_good(ask(server))
        assert server.pid == after


def test_a_mute_one_is_ended_and_started_anew() -> None:
    with kept() as server:
        before = kill(server, signal.SIGSTOP)
        assert is_good(ask(server, patience_s=3.0))
        assert server.pid != before
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)


def test_whoever_takes_its_address_is_not_believed() -> None:
    """After its death another process listens at its port and answers every request."""
    forged = b'{"object":"chat.completion","choices":[]}'
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with kept() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        kill(server)
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(5.0)

            def lie() -> None:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply % len(forged) + forged)

            liar = threading.Thread(target=lie)
            liar.start()
            answer = ask(server)
            listener.close()
            liar.join()
        assert is_good(answer)
        assert isinstance(answer, HttpAnswer)
        assert answer.body != forged


def test_a_fault_that_was_asked_for_is_no_loss() -> None:
    """A dropped connection of a faulty reasoner is its declared behaviour: it is not restarted."""
    with kept("drop=1") as server:
        before = server.pid
        prompt = {"model": "edgelm-reference", "messages": messages({}, {})}
        answer = ask(server, json.dumps(prompt).encode())
        assert isinstance(answer, Failure)
        assert not answer.late
        assert server.pid == before


def test_one_that_cannot_be_had_again_ends_the_run() -> None:
    starts: list[Server] = []

    def start_once() -> Server:
        if starts:
            raise Permanent("the reference reasoner did not start: no memory")
        starts.append(start_server(LATENCY))
        return starts[0]

    server = KeptServer(start_once)
    kill(server)
    with pytest.raises(Permanent, match="no memory"):
        ask(server)
    server.end()


def test_one_that_dies_at_every_call_ends_the_run() -> None:
    """Whoever kills each new server at once wins; the run must not go on with fallbacks."""

    class Doomed(KeptServer):
        @property
        def is_alive(self) -> bool:
            os.kill(self.pid, signal.SIGKILL)
            self._server.child.wait(10)
            return super().is_alive

    server = Doomed(partial(start_server, LATENCY))
    with pytest.raises(Permanent, match="lost 4 times in one call"):
        ask(server)
    server.end()


# Whole runs

SMALL = {
    "name": "own-server",
    "summary": "One small run of agents.",
    "strategies": ["MA"],
    "seeds": [0],
    "epochs": 2,
    "epoch_slots": 12,
}


def campaign(folder: Path, **changes: Any) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(json.dumps({**SMALL, **changes}))
    return path


def start(file: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "controller.cli", "run", str(file), "--out", str(out),
         "--jobs", "1", "--no-report"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def reasoner_below(pid: int) -> int | None:
    """The process id of the reasoner that a descendant of ``pid`` has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            parents[int(entry.name)] = int(stat[1]), b"reasoner" in words
    for child, (above, is_reasoner) in parents.items():
        while is_reasoner and above in parents:
            if above == pid:
                return child
            above = parents[above][0]
    return None


def files_of(out: Path) -> dict[str, bytes]:
    (folder,) = (out / "runs").iterdir()
    kept = ("requests.parquet", "slots.parquet", "decisions.jsonl", "transcript.jsonl")
    return {name: (folder / name).read_bytes() for name in kept}


@pytest.mark.parametrize("reasoner", ["reference", "faulty:drop=0.2,malformed=0.2"])
def test_a_run_whose_reasoner_is_killed_is_the_same_run(reasoner: str, tmp_path: Path) -> None:
    """Killed twice, a while after it has begun to answer."""
    file = campaign(tmp_path, reasoners=[reasoner])
    undisturbed = start(file, tmp_path / "calm")
    said, _ = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, said
    disturbed, killed = start(file, tmp_path / "hurt"), set()
    while disturbed.poll() is None and len(killed) < 2:
        pid = reasoner_below(disturbed.pid)
        partial_file = next((tmp_path / "hurt" / "runs").glob(".*.transcript.jsonl"), None)
        lines = partial_file.read_bytes().count(b"\n") if partial_file else 0
        if pid and pid not in killed and lines > 40 * (1 + len(killed)):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.02)
    said, _ = disturbed.communicate(timeout=120)
    assert disturbed.returncode == 0, said
    assert len(killed) == 2
    assert files_of(tmp_path / "hurt") == files_of(tmp_path / "calm")

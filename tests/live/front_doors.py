"""A local testbed with front doors, for tests: two nodes, users, runs beside which they call."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from controller.bootstrap.cluster import Address, execute
from controller.bootstrap.holding import held
from controller.bootstrap.serve import Front, local_testbed
from controller.campaigns.experiment import Experiment
from controller.campaigns.pool import Listener
from controller.domain.errors import Permanent
from controller.testbed.front.users import add_users
from tests.live.services import live_experiment
from tests.live.throughput import last_nodes

NODES = 2
PNG = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HELLO: Any = [{"role": "user", "content": "Hello there"}]


def picture(url: str = f"data:image/png;base64,{PNG}", text: str = "a") -> Any:
    """Messages with an image."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


@dataclass(frozen=True)
class Doors:
    """Front doors of a testbed that runs."""

    testbed: Address
    folder: Path
    port: int
    keys: dict[str, str]
    clients: contextlib.ExitStack  # closes them at the end

    def url(self, node: int = 0) -> str:
        return f"http://127.0.0.1:{self.port + node}"

    def settings(self, user: str = "alice", node: int = 0) -> dict[str, Any]:
        """Arguments of an official client."""
        key = self.keys.get(user, user)
        return {"base_url": f"{self.url(node)}/v1", "api_key": key, "max_retries": 0}

    def client(self, user: str = "alice", node: int = 0) -> openai.OpenAI:
        return self.clients.enter_context(openai.OpenAI(**self.settings(user, node)))


@contextlib.contextmanager
def doors(
    folder: Path, speed: float, weights: Path | None = None, nodes: int = NODES
) -> Iterator[Doors]:
    folder.mkdir(exist_ok=True)
    users = folder / "users.json"
    keys = add_users(users, ["alice", "bob"])
    names = last_nodes(nodes).to_domain().node_names
    port = free_ports(nodes)
    with (
        local_testbed(names, folder, speed, weights, Front(port, users)) as testbed,
        contextlib.ExitStack() as clients,
    ):
        yield Doors(testbed, folder, port, keys, clients)


def front_experiment(**changes: Any) -> Experiment:
    content = {"testbed": last_nodes(NODES), "load": 0.1, "tau_s": 900.0, "epoch_slots": 24}
    return live_experiment(**{**content, **changes})


class Run:
    """A run in a thread, which can be ended early."""

    def __init__(self, there: Doors, one: Experiment) -> None:
        self._there, self._one = there, one
        self._stopped = threading.Event()
        self.files: Future[dict[str, bytes]] = Future()
        threading.Thread(target=self._make, daemon=True).start()
        self._wait()

    def _make(self) -> None:
        def look(run: str, advance: Any) -> None:
            if self._stopped.is_set():
                raise Permanent("stopped by a test")

        listener = Listener(lambda text: False, look)
        try:
            with held(self._there.testbed, "a test") as mine:
                text = self._one.canonical_json()
                self.files.set_result(dict(execute(text, self._there.folder, listener, mine)))
        except BaseException as error:
            self.files.set_exception(error)

    def _wait(self) -> None:
        """Wait until both nodes work for it."""
        end_s = time.monotonic() + 60
        for node in range(len(self._one.testbed.to_domain().nodes)):
            client = self._there.client(node=node)
            while True:
                try:
                    client.models.list()
                    break
                except openai.InternalServerError:
                    assert time.monotonic() < end_s, "the run does not begin"
                    time.sleep(0.1)

    def end(self) -> None:
        """Cancel it."""
        self._stopped.set()
        with contextlib.suppress(Permanent):
            self.files.result(60)


def free_ports(count: int) -> int:
    """Return the first of ``count`` ports in a row that are free now, below those that the system
    gives to who asks for any."""
    while True:
        port = random.randrange(20_000, 30_000)  # noqa: S311 - no secret
        with contextlib.ExitStack() as stack:
            try:
                for k in range(count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + k))
            except OSError:
                continue
            return port

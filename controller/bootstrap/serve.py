"""The testbed's services as processes, and all of them on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from controller.bootstrap.cluster import Address
from controller.bootstrap.condition import read_state
from controller.bootstrap.kubernetes import Kubernetes, node_options, run_owner, surveyed
from controller.bootstrap.services import LiveWork, PlayedWork
from controller.domain.errors import InputError, Permanent, Transient
from controller.ports import Store
from controller.store.sqlite import open_store
from controller.telemetry.gpu_accounting import GpuAccounting, open_nvml
from controller.telemetry.traces import Traces
from controller.testbed.central.http import make_app as make_controller_app
from controller.testbed.central.machines import watch_machines
from controller.testbed.central.service import Controller
from controller.testbed.front.routes import make_app as make_front_app
from controller.testbed.front.users import Users
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER, OPERATOR, PLAYER, Keys, make_keys, write_keys
from controller.testbed.local import start
from controller.testbed.node.http import make_app as make_node_app
from controller.testbed.node.live_run import Options
from controller.testbed.node.service import NodeService
from controller.testbed.playing import PlayerService
from controller.testbed.serving import Tls, address_of, listen, serve

READY_S: Final = 180.0  # real seconds that services have to come up, where others use the cores
LOOK_S: Final = 0.2
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
STORE_RETRY_S: Final = 1.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a fresh folder of our own is made in it

log = logging.getLogger("edgelm.services")


@dataclass(frozen=True, slots=True)
class Site:
    """Address to listen on, folder of the state, keys and certificate of a service."""

    host: str
    port: int
    data: Path
    keys: Keys
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class Front:
    """Address of a front door, and the file of those who may use it; None: anyone.

    With several nodes on one machine, node k has ``port + k``.
    """

    port: int
    users: Path | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if self.users is None and self.host not in LOOPBACK:
            raise InputError(
                "edgelm node", "opens the front door to whoever reaches it", field="--front-host",
                value=self.host, remedy="give --users FILE, or keep it on 127.0.0.1",
            )  # fmt: skip


def serve_controller(
    site: Site, mongodb: str, *, exporters: bool, kubernetes: Kubernetes | None = None
) -> None:
    """Serve the controller until TERM or Ctrl-C.

    Args:
        mongodb: URL of the store; "" for SQLite in ``data``.
        exporters: read the exporters on the nodes.
        kubernetes: where the LMs' pods run; None: as processes on the nodes.

    Raises:
        InputError: no URL of MongoDB.
    """
    _log()
    data = site.data
    data.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            listener = stack.enter_context(contextlib.closing(listen(site.host, site.port)))
            store = stack.enter_context(contextlib.closing(_store(data, mongodb)))
            owner = await stack.enter_async_context(run_owner(kubernetes)) if kubernetes else None
            controller = Controller(data, store, LiveWork, owner)
            if kubernetes:
                await stack.enter_async_context(surveyed(kubernetes, controller.take_survey))
            await _open(controller)  # who asks earlier waits: it must not hear of an unknown run
            try:
                app = make_controller_app(controller, site.keys)
                watch = partial(watch_machines, controller, store)
                work = watch if exporters else asyncio.Event().wait
                await serve(app, listener, work, site.tls)
            finally:
                await controller.close()

    asyncio.run(run())


def _store(data: Path, mongodb: str) -> Store:
    if not mongodb:
        return open_store(data / "controller.sqlite")
    # What is written while the database is away waits on this machine's disk.
    from controller.store.mongo import open_mongo
    from controller.store.spooled import open_spooled

    return open_spooled(open_mongo(mongodb), data / "spool.sqlite")


async def _open(controller: Controller) -> None:
    """Open the controller; wait for its store, without which it knows of no run."""
    while True:
        try:
            return await controller.open()
        except Transient as error:
            log.warning("%s", error)
            await asyncio.sleep(STORE_RETRY_S)


def serve_node(
    name: str,
    site: Site,
    url: str,
    controller: str,
    weights: Path | None,
    otlp: str,
    kubernetes: Kubernetes | None = None,
    front: Front | None = None,
) -> None:
    """Serve a node until TERM or Ctrl-C.

    Args:
        url: where others reach it; "" for the address.
        otlp: endpoint of an OpenTelemetry collector; "" for none.
        kubernetes: where the LMs' pods run; None: as processes of this machine.
        front: its front door; None for none.

    Raises:
        InputError: an address is taken, or a file of weights or users is none.
    """
    _log()
    users = Users(front.users) if front else None
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(listen(site.host, site.port)))
        door = None
        if front is not None:
            door = stack.enter_context(contextlib.closing(listen(front.host, front.port)))
        traces = stack.enter_context(Traces(otlp, f"edgelm-node-{name}")) if otlp else None
        here = url or address_of(listener, site.tls)
        options = Options(name, here, controller.rstrip("/"), site.data, site.keys, traces)

        async def run() -> None:
            prepare = partial(LiveWork, weights=weights)
            async with contextlib.AsyncExitStack() as inside:
                mine, gpus = options, _gpus()
                if kubernetes is not None:
                    opened = node_options(options, kubernetes, weights, gpus)
                    mine = await inside.enter_async_context(opened)
                service = NodeService(mine, prepare, gpus, weights)
                beside = [(make_front_app(service, users), door)] if users and door else []
                app = make_node_app(service, site.keys)
                await serve(app, listener, service.run, site.tls, beside)

        asyncio.run(run())


def play(controller: str, data: Path, keys: Keys) -> None:
    """Play the workloads of the controller's runs until TERM or Ctrl-C."""
    _log()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def run() -> None:
        service = PlayerService(controller.rstrip("/"), data, keys, PlayedWork)
        playing, loop = asyncio.create_task(service.run()), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, playing.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await playing

    asyncio.run(run())


def _gpus() -> GpuAccounting | None:
    """Return the accounts of this machine's GPUs, None without a driver."""
    try:
        return GpuAccounting(open_nvml())
    except Permanent as error:
        log.info("no accounts of GPUs: %s", error)
        return None


@contextlib.contextmanager
def local_testbed(
    nodes: tuple[str, ...],
    folder: Path | None,
    speed: float,
    weights: Path | None = None,
    front: Front | None = None,
) -> Iterator[Address]:
    """Run a controller, a player and a service per node on this machine's loopback, and end them.

    Args:
        folder: of the services' data and logs; None: a temporary one.
        weights: of real engines.
        front: front doors of the nodes, from its port on.

    Raises:
        Permanent: they do not come up; names the log that says why.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            # In memory where that can be had: at twenty times the speed, a disk's syncs would take
            # twenty times as long. A kill loses nothing there, and no machine outlives its testbed.
            place = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
            made = tempfile.TemporaryDirectory(prefix="edgelm-", dir=place)
            folder = Path(stack.enter_context(made))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = make_keys(nodes, secrets.token_bytes(32))
        files = {name: folder / "keys" / f"{name}.json" for name in keys}
        for name, path in files.items():
            write_keys(path, keys[name])
        ports = _free_ports(1 + len(nodes))
        url = f"http://127.0.0.1:{ports[0]}"
        edgelm = [sys.executable, "-m", "controller.cli"]

        def common(name: str) -> list[str]:
            return ["--keys", str(files[name]), "--data", str(folder / name)]

        services = {
            CONTROLLER: [
                *edgelm, "controller", "--port", str(ports[0]), *common(CONTROLLER)
            ],
            PLAYER: [*edgelm, "player", "--controller", url, *common(PLAYER)],
            **{
                node: [
                    *edgelm, "node", node, "--port", str(port), "--controller", url, *common(node),
                    *(["--weights", str(weights.absolute())] if weights else []),
                    *_front_options(front, k),
                ]
                for k, (node, port) in enumerate(zip(nodes, ports[1:], strict=True))
            },
        }  # fmt: skip
        process = start(services, folder)
        try:
            _wait_until_there(url, keys[OPERATOR], nodes, folder)
            yield Address(url, str(files[OPERATOR]), speed)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait()


def _front_options(front: Front | None, k: int) -> list[str]:
    """Return the options of the k-th node's front door."""
    if front is None:
        return []
    users = ["--users", str(front.users.absolute())] if front.users else []
    return ["--front-port", str(front.port + k), "--front-host", front.host, *users]


def _wait_until_there(url: str, keys: Keys, nodes: tuple[str, ...], folder: Path) -> None:
    end_s, lacking = time.monotonic() + READY_S, list(nodes)
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, ValueError):
            found = read_state(url, headers(keys, CONTROLLER))
            lacking = [node for node in nodes if node not in found["nodes"]]
            lacking += [] if found["player"] else [PLAYER]
            if not lacking:
                return
        time.sleep(LOOK_S)
    raise Permanent(
        f"{', '.join(lacking)} did not come up within {READY_S:g} s: see the logs in {folder}"
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

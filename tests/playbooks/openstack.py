"""A real OpenStack for tests of the bring-up, and how it counts what is asked of it.

``EDGELM_OPENSTACK`` names a program that has one on this machine, whose hypervisor may boot
nothing: keystone at 127.0.0.1:15000, and a clouds.yaml in ``openstack-dev/state`` of the cache with
the cloud ``member``, a user who is a member of one project. ``PROGRAM quota [KEY=N...]`` sets the
project's quota, ``PROGRAM calls [all]`` lists what was asked: time, service, method, path, status.
Tests are the member, never an administrator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
PROGRAM = os.environ.get("EDGELM_OPENSTACK", "")
CLOUDS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "openstack-dev" / "state"
KEYSTONE = "http://127.0.0.1:15000/v3"
START = "EDGELM_OPENSTACK=PROGRAM (tests/playbooks/openstack.py)"
EDGELM = Path(sys.executable).with_name("edgelm")


def runs() -> bool:
    """Return whether the cloud answers."""
    if not PROGRAM:
        return False
    try:
        with urlopen(KEYSTONE, timeout=5):
            return (CLOUDS / "clouds.yaml").exists()
    except (URLError, OSError):
        return False


def administer(*arguments: str) -> str:
    """Run the cloud's program; return what it prints."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def calls(*, every: bool = False) -> list[tuple[str, str, int]]:
    """Return what the member has asked so far: method, path, status."""
    lines = administer("calls", *(["all"] if every else [])).splitlines()
    found = []
    for line in lines:
        _, _, method, path, status = line.split()
        found.append((method, path, int(status)))
    return found


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def changes(self) -> dict[str, int]:
        """Phase -> tasks that changed something."""
        return {
            one["name"]: sum(one["changed"].values()) for one in self.document["phases"]
        }  # fmt: skip


def edgelm(*arguments: str, timeout_s: float = 600, **environment: str) -> Said:
    """Run edgelm as the project's member."""
    done = subprocess.run(
        [EDGELM, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s,
        stdin=subprocess.DEVNULL, env={**member_environment(), **environment},
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def killed_after(seconds: float, *arguments: str) -> int | None:
    """Run edgelm and kill it with -9 after some seconds; return its code if it ended before."""
    process = subprocess.Popen(
        [EDGELM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=member_environment(),
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return None


def member_environment() -> dict[str, str]:
    return {**os.environ, "OS_CLIENT_CONFIG_FILE": str(CLOUDS / "clouds.yaml")}


def connection(cloud: str = "member") -> Any:
    """Return openstacksdk's connection."""
    import openstack

    os.environ["OS_CLIENT_CONFIG_FILE"] = str(CLOUDS / "clouds.yaml")
    return openstack.connect(cloud=cloud)


def counts(cloud: Any) -> Counter[str]:
    """Return how many things of each kind the project has, but for what Neutron makes itself."""
    network = cloud.network
    found: Counter[str] = Counter()
    found["servers"] = sum(1 for _ in cloud.compute.servers())
    found["ports"] = sum(
        1 for one in network.ports() if not (one.device_owner or "").startswith("network:")
    )
    found["routers"] = sum(1 for _ in network.routers())
    found["floating"] = sum(1 for _ in network.ips())
    found["networks"] = sum(1 for one in network.networks() if not one.is_router_external)
    found["groups"] = sum(1 for one in network.security_groups() if one.name != "default")
    found["server groups"] = sum(1 for _ in cloud.compute.server_groups())
    found["keypairs"] = sum(1 for _ in cloud.compute.keypairs())
    return +found

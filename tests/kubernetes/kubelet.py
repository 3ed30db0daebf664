"""A real kubelet on Debian's containerd, joined to a control plane of the tests.

Needs root, `apt-get install containerd containernetworking-plugins runc iptables conntrack`, and a
registry on localhost:5000 with the images and a sandbox image `localhost:5000/pause:3.10`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import PROGRAMS, ControlPlane
from tests.kubernetes.ground import until

ADDRESS = "10.77.0.1"
LINK, PODS_LINK = "edgelm0", "edgelmbr0"
REGISTRY = "localhost:5000"
NEEDED = ("containerd", "runc", "iptables", "conntrack", "ip")


class Kubelet:
    """This machine as a node."""

    def __init__(self, plane: ControlPlane, name: str, folder: Path) -> None:
        self.plane, self.name, self.folder = plane, name, folder
        # Each folder above it exists in images too, and is open to their user.
        self.data = Path(tempfile.mkdtemp(prefix="edgelm-", dir="/var/lib"))
        self._containerd: subprocess.Popen[bytes] | None = None
        self._kubelet: subprocess.Popen[bytes] | None = None

    def start_containerd(self) -> None:
        state = self.folder
        (state / "cni").mkdir(parents=True)
        hosts = state / "certs.d" / REGISTRY
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(
            'server = "http://127.0.0.1:5000"\n[host."http://127.0.0.1:5000"]\n'
            '  capabilities = ["pull", "resolve"]\n'
        )
        for template in Path(__file__).with_name("containerd").glob("*.in"):
            text = template.read_text().replace("@STATE@", str(state))
            place = state / "cni" if "conflist" in template.name else state
            (place / template.stem).write_text(text)
        with (state / "containerd.log").open("ab") as log:
            self._containerd = subprocess.Popen(
                ["containerd", "--config", str(state / "config.toml")], stdout=log, stderr=log
            )
        until((state / "containerd.sock").exists, bool)

    def start(self) -> None:
        """Start the kubelet, for the first time or after :meth:`kill`."""
        state, plane = self.folder, self.plane
        if not (plane.folder / f"{self.name}.crt").exists():
            plane.add_user(
                self.name,
                f"/O=system:nodes/CN=system:node:{self.name}",
                f"DNS:{self.name},IP:{ADDRESS}",
            )
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "x509": {"clientCAFile": str(plane.folder / "ca.crt")},
                "anonymous": {"enabled": False},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{state}/containerd.sock",
            "failCgroupV1": False,
            "failSwapOn": False,
            "tlsCertFile": str(plane.folder / f"{self.name}.crt"),
            "tlsPrivateKeyFile": str(plane.folder / f"{self.name}.key"),
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi"},
            "localStorageCapacityIsolation": False,
        }
        (state / "kubelet.json").write_text(json.dumps(settings))
        arguments = [
            "--config", str(state / "kubelet.json"), "--kubeconfig",
            str(plane.config_of(self.name)), "--hostname-override", self.name,
            "--root-dir", str(state / "kubelet"), "--node-ip", ADDRESS,
        ]  # fmt: skip
        with (state / "kubelet.log").open("ab") as log:
            self._kubelet = subprocess.Popen(
                [PROGRAMS / "kubelet", *arguments], stdout=log, stderr=log
            )
        until(lambda: plane.kubectl("get", "node", self.name, check=False), _ready, 60.0)

    def kill(self) -> None:
        """End the kubelet as kill -9 does; containers go on."""
        assert self._kubelet is not None
        self._kubelet.kill()
        self._kubelet.wait()

    def end(self) -> None:
        with contextlib.suppress(AssertionError):
            self.plane.kubectl(
                "delete", "pods", "-A", "--field-selector", f"spec.nodeName={self.name}",
                "--grace-period=1", "--timeout=30s",
            )  # fmt: skip
        for process in (self._kubelet, self._containerd):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for pid in processes_with(f"{self.folder}/containerd.sock"):  # what watches containers
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        mounts = Path("/proc/mounts").read_text().splitlines()
        points = [one.split()[1] for one in mounts if one.split()[1].startswith(str(self.folder))]
        for point in sorted(points, reverse=True):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for link in (LINK, PODS_LINK):
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        for one in (self.folder, self.data):
            shutil.rmtree(one, ignore_errors=True)


@contextlib.contextmanager
def kubelet(plane: ControlPlane, name: str) -> Iterator[Kubelet]:
    """Join this machine to a control plane."""
    lacking = [one for one in NEEDED if shutil.which(one) is None]
    if lacking or os.geteuid():
        pytest.skip(f"no kubelet: {', '.join(lacking) or 'root'} is missing")
    # Not in a temporary folder: the paths of sockets are short, and layers need a real disk.
    made = Kubelet(plane, name, Path(tempfile.mkdtemp(prefix="k", dir=PROGRAMS.parent)))
    for command in (
        ["ip", "link", "add", LINK, "type", "bridge"],
        ["ip", "addr", "add", f"{ADDRESS}/24", "dev", LINK],
        ["ip", "link", "set", LINK, "up"],
    ):
        subprocess.run(command, check=True)
    try:
        made.start_containerd()
        made.start()
        yield made
    finally:
        made.end()


def processes_with(text: str) -> list[int]:
    """Return the processes with a text in their command line."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text in one.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(int(one.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def _ready(text: str) -> bool:
    return " Ready" in text

"""A real Kubernetes control plane for tests: etcd, API server, controllers, scheduler on loopback.

``make kube-dev`` builds the programs. Nodes are kwok's: objects that become Ready and run their
pods on paper, so that every node of a testbed fits a laptop; a real kubelet joins in
:mod:`tests.kubernetes.kubelet`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgelm/kubernetes"
STAGES = Path(__file__).with_name("kwok.yaml")
READY_S = 60.0
NODE_ROLE = "system:nodes"


class ControlPlane:
    """The processes of one control plane and what talks to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._etcd, self._peers, *self._others = _free_ports(6)
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = folder / "admin.kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # Processes

    def start(self) -> None:
        """Start everything; return when pods can be made."""
        self._make_certificates()
        etcd = f"http://127.0.0.1:{self._etcd}"
        peers = f"http://127.0.0.1:{self._peers}"
        self._run(
            "etcd", "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
            "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"default={peers}",
        )  # fmt: skip
        self.start_api_server()
        controllers, scheduler, kwok = self._others
        self._run(
            "kube-controller-manager", f"--kubeconfig={self.config_of('controllers')}",
            "--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt",
            "--cluster-signing-cert-file=ca.crt", "--cluster-signing-key-file=ca.key",
            "--use-service-account-credentials=true", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={controllers}",
            "--node-monitor-grace-period=20s",
        )  # fmt: skip
        self._run(
            "kube-scheduler", f"--kubeconfig={self.config_of('scheduler')}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={scheduler}",
        )  # fmt: skip
        self._run(
            "kwok", f"--kubeconfig={self.kubeconfig}", f"--config={STAGES}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--server-address=127.0.0.1:{kwok}",
        )  # fmt: skip
        _until(lambda: self.kubectl("get", "serviceaccount", "default", check=False) != "")

    def start_api_server(self) -> None:
        """Start the API server, also after :meth:`stop`; return when it answers."""
        self._run(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}", "--tls-cert-file=apiserver.crt",
            "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt",
            "--authorization-mode=Node,RBAC", "--service-account-key-file=sa.key",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-signing-key-file=sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true",
            "--kubelet-client-certificate=admin.crt", "--kubelet-client-key=admin.key",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
        )  # fmt: skip
        _until(lambda: "ok" in self.kubectl("get", "--raw", "/readyz", check=False))

    def stop(self, program: str) -> None:
        """End one program at once, as a crash would."""
        process = self._processes.pop(program)
        process.kill()
        process.wait()

    def end(self) -> None:
        for program in reversed(list(self._processes)):
            self.stop(program)

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                [PROGRAMS / program, *arguments],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    # Who may talk to it

    def config_of(self, user: str) -> Path:
        """Return the kubeconfig of a user for whom :meth:`add_user` was called."""
        return self.folder / f"{user}.kubeconfig"

    def add_user(self, user: str, subject: str, names: str) -> Path:
        """Make a certificate of the cluster's authority; return a kubeconfig that uses it."""
        self._certify(user, subject, names)
        return self._write_config(
            user,
            {
                "client-certificate": str(self.folder / f"{user}.crt"),
                "client-key": str(self.folder / f"{user}.key"),
            },
        )

    def token_config(self, user: str, token: str) -> Path:
        """Return a kubeconfig for a bearer token."""
        return self._write_config(user, {"token": token})

    def _write_config(self, user: str, credentials: dict[str, str]) -> Path:
        path = self.config_of(user)
        authority = str(self.folder / "ca.crt")
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {"server": self.url, "certificate-authority": authority},
                        }
                    ],
                    "users": [{"name": "user", "user": credentials}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
                    "current-context": "test",
                }
            )
        )
        path.chmod(0o600)
        return path

    def _make_certificates(self) -> None:
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key",
            "-out", "ca.crt", "-days", "2", "-subj", "/CN=edgelm-test-ca",
        )  # fmt: skip
        self._certify(
            "apiserver",
            "/CN=kube-apiserver",
            "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1",
        )
        self.add_user("admin", "/O=system:masters/CN=admin", "DNS:admin")
        for user, name in (
            ("controllers", "kube-controller-manager"),
            ("scheduler", "kube-scheduler"),
        ):
            self.add_user(user, f"/CN=system:{name}", f"DNS:{name}")

    def _certify(self, name: str, subject: str, names: str) -> None:
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={names}")
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", subject,
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-out", f"{name}.crt", "-extfile", f"{name}.ext",
        )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    # What is in it

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl as the administrator; return what it prints."""
        done = subprocess.run(
            [PROGRAMS / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make or change objects; of nodes, the status as well."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(document))
        for one in objects:
            if one["kind"] == "Node":  # applied in passing only where the node is new
                self.kubectl(
                    "patch", "node", one["metadata"]["name"], "--subresource=status",
                    "--type=merge", "-p", json.dumps({"status": one["status"]}),
                )  # fmt: skip

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found


def fake_node(name: str, *, cores: float, ram_gb: float, vgpus: int = 0) -> dict[str, Any]:
    """Return a node that kwok keeps Ready, with what its kubelet would offer."""
    offered = {
        "cpu": f"{round(cores * 1000)}m",
        "memory": f"{round(ram_gb * 1e9 / 2**20)}Mi",
        "pods": "110",
        **({"nvidia.com/gpu": str(vgpus)} if vgpus else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
        },
        "status": {"allocatable": offered, "capacity": offered},
    }


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """Run a control plane; skip the test where its programs were not built."""
    if not (PROGRAMS / ".built").exists():
        pytest.skip("no Kubernetes: make kube-dev")
    if shutil.which("openssl") is None:
        pytest.skip("no certificates: apt-get install openssl")
    plane = ControlPlane(folder)
    try:
        plane.start()
        yield plane
    finally:
        plane.end()


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _until(happened: Any) -> None:
    end_s = time.monotonic() + READY_S
    while not happened():
        assert time.monotonic() < end_s, "the control plane does not come up: see its logs"
        time.sleep(0.2)

"""The manifests on a real control plane: what is applied, and what it refuses."""

from __future__ import annotations

import copy
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.bootstrap.manifests import render_manifests, write_manifests
from controller.inputs.catalog import load_testbed
from controller.inputs.cluster import ClusterFile
from controller.inputs.testbed import TestbedFile
from controller.testbed.kubernetes.manifests import applied
from tests.kubernetes.cluster import PROGRAMS, ControlPlane, control_plane, fake_node

Object = dict[str, Any]
VALUES = ClusterFile.model_validate(
    {"images": {"lms": [f"localhost:5000/edgelm-emulated@sha256:{'0' * 64}"]}}
)
LMS, SERVICES = "edgelm-lms", "edgelm"


@pytest.fixture(scope="module", params=["paper", "campus"])
def testbed(request: pytest.FixtureRequest) -> TestbedFile:
    return load_testbed(request.param)


@pytest.fixture(scope="module")
def cluster(
    testbed: TestbedFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ControlPlane, Path]]:
    """A cluster of its own with the testbed's machines, and the folder of its manifests."""
    root = tmp_path_factory.mktemp(testbed.name)
    with control_plane(root) as plane:
        children = testbed.all.children
        nodes = {node.name: node for node in testbed.to_domain().nodes}
        for name, host in {**children.control.hosts, **children.workers.hosts}.items():
            vgpus = nodes[name].vgpus if name in nodes else 0
            plane.apply(fake_node(name, cores=host.cores, ram_gb=host.ram_gb, vgpus=vgpus))
        folder = root / "manifests"
        write_manifests(render_manifests(testbed, VALUES), folder)
        plane.kubectl("apply", "-k", str(folder))
        yield plane, folder


def tried(plane: ControlPlane, *arguments: str, stdin: str = "", config: Path | None = None) -> str:
    """What kubectl says, good or bad, as somebody."""
    done = subprocess.run(
        [PROGRAMS / "kubectl", f"--kubeconfig={config or plane.kubeconfig}", *arguments],
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def until(happened: Any, limit_s: float = 120.0) -> Any:
    end_s = time.monotonic() + limit_s
    while not (found := happened()):
        assert time.monotonic() < end_s
        time.sleep(0.3)
    return found


def test_a_dry_run_on_the_server_takes_every_object(cluster: tuple[ControlPlane, Path]) -> None:
    plane, folder = cluster
    files = {p.name: p.read_text() for p in folder.glob("*.yaml")}
    text = applied(files)
    said = tried(
        plane, "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-",
        stdin=text,
    )  # fmt: skip
    lines = [line for line in said.strip().splitlines() if not line.startswith("Warning:")]
    assert [line for line in lines if "serverside-applied" not in line] == []
    assert len(lines) == len(list(yaml.safe_load_all(text)))


def test_a_second_apply_changes_nothing(cluster: tuple[ControlPlane, Path]) -> None:
    plane, folder = cluster
    said = tried(plane, "apply", "-k", str(folder))
    assert [line for line in said.splitlines() if not line.endswith(" unchanged")] == []


def test_claims_are_bound_and_services_run_where_they_should(
    cluster: tuple[ControlPlane, Path], testbed: TestbedFile
) -> None:
    plane, _ = cluster
    workers = list(testbed.all.children.workers.hosts)
    (control,) = testbed.all.children.control.hosts

    def phases() -> bool:
        claims = plane.get("persistentvolumeclaims", "-n", LMS)["items"]
        return {c["status"]["phase"] for c in claims} == {"Bound"}

    until(phases)

    def placed() -> dict[str, list[str]]:
        pods = [p for p in plane.get("pods", "-A")["items"] if p["status"]["phase"] == "Running"]
        found: dict[str, list[str]] = {}
        for pod in pods:
            name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
            found.setdefault(name, []).append(pod["spec"]["nodeName"])
        return {name: sorted(nodes) for name, nodes in found.items()}

    gpus = sorted(name for name, host in testbed.all.children.workers.hosts.items() if host.gpus)
    expected = {
        "edgelm-node": sorted(workers),
        "edgelm-images": sorted(workers),
        "edgelm-controller": [control],
        "edgelm-player": [control],
        "node-exporter": sorted([control, *workers]),
        "dcgm-exporter": gpus,
        "nvidia-device-plugin": gpus,
    }
    until(lambda: placed() == expected)


def test_allocatable_less_daemons_is_what_everybody_plans_with(
    cluster: tuple[ControlPlane, Path], testbed: TestbedFile
) -> None:
    plane, _ = cluster
    until(lambda: len(plane.get("pods", "-n", SERVICES)["items"]) >= len(testbed.to_domain().nodes))
    asked: dict[str, float] = {}
    for pod in plane.get("pods", "-A")["items"]:
        node = pod["spec"].get("nodeName", "")
        for container in pod["spec"]["containers"]:
            amount = container["resources"]["requests"]["cpu"]
            cores = float(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)
            asked[node] = asked.get(node, 0.0) + cores
    for node in testbed.to_domain().nodes:
        host = testbed.all.children.workers.hosts[node.name]
        assert host.cores - asked[node.name] >= node.cores


# Who may do what; on the first testbed's cluster only


@pytest.fixture(scope="module")
def nodes(cluster: tuple[ControlPlane, Path], testbed: TestbedFile) -> tuple[str, str]:
    """Two workers."""
    first, second = sorted(testbed.all.children.workers.hosts)[1:3]
    return first, second


@pytest.fixture(scope="module")
def of_node(cluster: tuple[ControlPlane, Path], nodes: tuple[str, str]) -> Path:
    """Kubeconfig with the token of the node service on the first."""
    plane, _ = cluster

    def pod() -> Any:
        pods = plane.get("pods", "-n", SERVICES, "-l", "app.kubernetes.io/name=edgelm-node")
        return [p for p in pods["items"] if p["spec"].get("nodeName") == nodes[0]]

    (found,) = until(pod)
    token = plane.kubectl(
        "create", "token", "edgelm-node", "-n", SERVICES, "--bound-object-kind=Pod",
        f"--bound-object-name={found['metadata']['name']}",
        f"--bound-object-uid={found['metadata']['uid']}",
    )  # fmt: skip
    return plane.token_config("node-service", token.strip())


def lm_pod(name: str, node: str | None) -> Object:
    """An LM's pod that `restricted` admits."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": LMS, "labels": {"try": name}},
        "spec": {
            **({"affinity": affinity} if node else {}),
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "lm",
                    "image": "nothing",
                    "resources": {"limits": {"cpu": "100m", "memory": "10Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }  # fmt: skip


def create(plane: ControlPlane, document: Object, config: Path | None = None) -> str:
    return tried(plane, "create", "-f", "-", stdin=json.dumps(document), config=config)


def say_that_the_kubelet_resizes(plane: ControlPlane, pod: str) -> None:
    """Add what kwok does not tell of a running container: the resources that it has."""

    def running() -> Any:
        return plane.get("pod", pod, "-n", LMS)["status"].get("containerStatuses")

    told = [{**one, "resources": {"limits": {"cpu": "100m"}}} for one in until(running)]
    plane.kubectl(
        "patch", "pod", pod, "-n", LMS, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"containerStatuses": told}}),
    )  # fmt: skip


def patched(plane: ControlPlane, path: str, body: Object, config: Path) -> int:
    """Status of a PATCH with the token of a kubeconfig."""
    (user,) = json.loads(config.read_text())["users"]
    request = urllib.request.Request(  # noqa: S310
        plane.url + path,
        json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {user['user']['token']}",
            "Content-Type": "application/strategic-merge-patch+json",
        },
        method="PATCH",
    )
    trusted = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
    trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the test's authority is a plain one
    try:
        with urllib.request.urlopen(request, context=trusted) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_node_makes_and_ends_pods_of_its_own_only(
    cluster: tuple[ControlPlane, Path], nodes: tuple[str, str], of_node: Path
) -> None:
    plane, _ = cluster
    mine, other = nodes
    # A policy is in force a moment after it is applied.
    until(lambda: "Forbidden" in create(plane, lm_pod("probe", other), of_node))
    said = create(plane, lm_pod("theirs", other), of_node)
    assert "Forbidden" in said
    assert f"the caller is node {mine}" in said
    assert "created" in create(plane, lm_pod("mine", mine), of_node)

    nowhere = create(plane, lm_pod("nowhere", None), of_node)
    assert "Forbidden" in nowhere
    either = lm_pod("either", mine)
    required = either["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    terms.append(copy.deepcopy(terms[0]))
    terms[1]["matchFields"][0]["values"] = [other]
    assert "Forbidden" in create(plane, either, of_node)
    past = lm_pod("past", mine)
    past["spec"]["nodeName"] = other
    assert "Forbidden" in create(plane, past, of_node)

    assert "created" in create(plane, lm_pod("theirs", other))  # by the administrator
    for arguments in (
        ("delete", "pod", "theirs"),
        ("label", "pod", "theirs", "stolen=yes"),
        ("delete", "pods", "-l", "try=theirs"),
    ):
        assert "orbidden" in tried(plane, "-n", LMS, *arguments, config=of_node), arguments
    collection = tried(
        plane, "delete", "--raw", f"/api/v1/namespaces/{LMS}/pods?labelSelector=try=theirs",
        config=of_node,
    )  # fmt: skip
    assert "orbidden" in collection
    assert plane.get("pod", "theirs", "-n", LMS)["metadata"]["name"] == "theirs"

    assert "labeled" in tried(plane, "-n", LMS, "label", "pod", "mine", "seen=yes", config=of_node)
    for name in ("mine", "theirs"):
        say_that_the_kubelet_resizes(plane, name)
    # Not by kubectl, which reads the subresource first.
    amounts = {"limits": {"cpu": "200m"}, "requests": {"cpu": "200m"}}
    body = {"spec": {"containers": [{"name": "lm", "resources": amounts}]}}
    assert patched(plane, f"/api/v1/namespaces/{LMS}/pods/mine/resize", body, of_node) == 200
    assert patched(plane, f"/api/v1/namespaces/{LMS}/pods/theirs/resize", body, of_node) == 403
    said = tried(
        plane, "delete", "--raw", f"/api/v1/namespaces/{LMS}/pods?labelSelector=try=mine",
        config=of_node,
    )  # fmt: skip
    assert "orbidden" not in said
    until(lambda: "NotFound" in tried(plane, "-n", LMS, "get", "pod", "mine"))


def test_a_token_that_names_no_node_may_do_nothing(
    cluster: tuple[ControlPlane, Path], nodes: tuple[str, str]
) -> None:
    plane, _ = cluster
    token = plane.kubectl("create", "token", "edgelm-node", "-n", SERVICES)
    config = plane.token_config("no-node", token.strip())
    said = create(plane, lm_pod("stray", nodes[0]), config)
    assert "Forbidden" in said
    assert "the token names no node" in said


def test_pods_of_lms_get_no_folder_of_the_host(
    cluster: tuple[ControlPlane, Path], nodes: tuple[str, str], of_node: Path
) -> None:
    plane, _ = cluster
    pod = lm_pod("thief", nodes[0])
    pod["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/var/lib/edgelm/data"}}]
    for config in (of_node, None):
        said = create(plane, pod, config)
        assert 'violates PodSecurity "restricted' in said
        assert "hostPath" in said


@pytest.mark.parametrize(
    ("namespace", "path", "admitted"),
    [
        (SERVICES, "/var/lib/edgelm", True),
        (SERVICES, "/var/lib/edgelm/data", True),
        (SERVICES, "/var/lib/edgelm-other", False),
        (SERVICES, "/etc", False),
        (SERVICES, "/", False),
        ("edgelm-system", "/var/lib/kubelet/device-plugins", True),
        ("edgelm-system", "/var/lib/kubelet", False),
        ("edgelm-system", "/var/lib/edgelm", False),
    ],
)
def test_other_folders_of_the_host_are_refused(
    cluster: tuple[ControlPlane, Path], namespace: str, path: str, admitted: bool
) -> None:
    plane, _ = cluster
    pod = lm_pod("folder", None)
    pod["metadata"]["namespace"] = namespace
    pod["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": path}}]
    said = tried(plane, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    if admitted:
        assert "created" in said
    else:
        assert "a hostPath in" in said


NODE = f"system:serviceaccount:{SERVICES}:edgelm-node"
CONTROLLER = f"system:serviceaccount:{SERVICES}:edgelm-controller"


@pytest.mark.parametrize(
    ("who", "verb", "what", "namespace", "answer"),
    [
        (NODE, "create", "pods", LMS, "yes"),
        (NODE, "patch", "pods/resize", LMS, "yes"),
        (NODE, "create", "events", LMS, "yes"),
        (NODE, "get", "configmaps", LMS, "yes"),
        (NODE, "get", "nodes", "", "yes"),
        (NODE, "create", "pods", "kube-system", "no"),
        (NODE, "create", "pods", SERVICES, "no"),
        (NODE, "list", "pods", SERVICES, "no"),
        (NODE, "create", "pods/exec", LMS, "no"),
        (NODE, "get", "pods/log", LMS, "no"),
        (NODE, "create", "configmaps", LMS, "no"),
        (NODE, "delete", "configmaps", LMS, "no"),
        (NODE, "get", "secrets", LMS, "no"),
        (NODE, "get", "secrets", SERVICES, "no"),
        (NODE, "patch", "nodes", "", "no"),
        (NODE, "create", "pods/binding", LMS, "no"),
        (NODE, "create", "serviceaccounts/token", SERVICES, "no"),
        (CONTROLLER, "create", "configmaps", LMS, "yes"),
        (CONTROLLER, "delete", "configmaps", LMS, "yes"),
        (CONTROLLER, "watch", "nodes", "", "yes"),
        (CONTROLLER, "list", "pods", "kube-system", "yes"),
        (CONTROLLER, "create", "pods", LMS, "no"),
        (CONTROLLER, "delete", "pods", LMS, "no"),
        (CONTROLLER, "get", "configmaps", SERVICES, "no"),
        (CONTROLLER, "get", "secrets", SERVICES, "no"),
        (CONTROLLER, "patch", "nodes", "", "no"),
        (f"system:serviceaccount:{SERVICES}:default", "list", "pods", LMS, "no"),
        (f"system:serviceaccount:{LMS}:default", "list", "pods", LMS, "no"),
    ],
)
def test_accounts_may_what_they_need_and_no_more(
    cluster: tuple[ControlPlane, Path], who: str, verb: str, what: str, namespace: str, answer: str
) -> None:
    plane, _ = cluster
    where = ["-n", namespace] if namespace else []
    resource, _, sub = what.partition("/")
    part = [f"--subresource={sub}"] if sub else []
    said = tried(plane, "auth", "can-i", verb, resource, *part, *where, f"--as={who}")
    assert said.startswith(answer)  # a warning follows for what is in no namespace


def test_more_slices_roll_the_device_plugin_and_nothing_else(
    cluster: tuple[ControlPlane, Path], testbed: TestbedFile, tmp_path: Path
) -> None:
    plane, _ = cluster
    before = plane.get("daemonset", "nvidia-device-plugin", "-n", "edgelm-system")
    document = testbed.model_dump(mode="json")
    for host in document["all"]["children"]["workers"]["hosts"].values():
        if host["edgelm_gpus"]:
            host["edgelm_gpus"]["slices"] += 1
    write_manifests(render_manifests(TestbedFile.model_validate(document), VALUES), tmp_path)
    said = tried(plane, "apply", "-k", str(tmp_path))
    moved = [line for line in said.splitlines() if not line.endswith(" unchanged")]
    assert moved == [
        "configmap/nvidia-device-plugin configured",
        "daemonset.apps/nvidia-device-plugin configured",
    ]
    status = tried(
        plane, "rollout", "status", "daemonset/nvidia-device-plugin", "-n", "edgelm-system",
        "--timeout=60s",
    )  # fmt: skip
    assert "successfully rolled out" in status
    after = plane.get("daemonset", "nvidia-device-plugin", "-n", "edgelm-system")
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1

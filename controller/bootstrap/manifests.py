"""Manifests of a testbed on a cluster: the files of both are joined, and checked together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from controller.domain.errors import InputError
from controller.inputs.catalog import combine, template_dir
from controller.inputs.cluster import ClusterFile
from controller.inputs.cluster import Request as RequestValue
from controller.inputs.testbed import Host, TestbedFile, Worker
from controller.testbed.kubernetes import manifests, views
from controller.testbed.kubernetes.manifests import Cluster, Files
from controller.testbed.kubernetes.views import Container, Request

RESIZE_SINCE = 33  # minor version in which cores of a pod change in place
KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon of a machine with its request."""

    name: str
    cores: float
    ram_gb: float


def render_manifests(testbed: TestbedFile, values: ClusterFile) -> Files:
    """Return the files that ``kubectl apply -k`` takes.

    Raises:
        InputError: a name is not one of Kubernetes, or the daemons request more than the machines
            reserve; names every machine.
    """
    _check_names(testbed)
    _check_requests(testbed, values)
    return manifests.render(describe(testbed, values), template_dir() / "k8s")


def unpinned(values: ClusterFile) -> list[str]:
    """Return the installed images that have no digest, so that nodes may run different ones."""
    names = (name for name in type(values.images).model_fields if name != "lms")
    images = (values.image(name) for name in names if getattr(values.install, name, True))
    return [image for image in images if "@sha256:" not in image]


def describe(testbed: TestbedFile, values: ClusterFile) -> Cluster:
    """Return what the manifests say of a testbed on a cluster."""
    (control,) = testbed.all.children.control.hosts
    install = values.install
    return Cluster(
        control=control,
        workers=tuple(
            manifests.Worker(node.name, node.gpus, node.vgpus_per_gpu)
            for node in testbed.to_domain().nodes
        ),
        kubernetes=values.kubernetes,
        resize=values.minor >= RESIZE_SINCE,
        lm_images=values.lm_images,
        weights_gb=math.ceil(sum(lm.memory.storage_gb for lm in testbed.all.vars.lms)),
        data_gb=values.storage.data_gb,
        prefix=values.storage.prefix,
        weights=values.engines == "live",
        pull_policy=values.pull_policy,
        pull_secret=values.pull_secret,
        runtime_class=values.runtime_class,
        makes_runtime_class=bool(values.runtime_class) and install.runtime_class,
        node_port=values.node_port,
        controller_url=values.controller_url or _own_controller(),
        slot_s=values.slot_s,
        exporters=values.exporters,
        documentation=values.documentation and f"{values.documentation.rstrip('/')}/",
        clients=values.network.clients,
        egress=values.network.egress,
        front_port=values.front_door.port,
        users=values.front_door.users,
        monitoring=values.monitoring.kind,
        monitoring_namespace=values.monitoring.namespace,
        node=_container(values, "services", values.requests.node),
        controller=_container(values, "services", values.requests.controller),
        player=_container(values, "services", values.requests.player),
        node_exporter=_daemon(values, "node_exporter") if install.node_exporter else None,
        dcgm_exporter=_daemon(values, "dcgm_exporter") if install.dcgm_exporter else None,
        device_plugin=_daemon(values, "device_plugin") if install.device_plugin else None,
        pulling=(
            _container(values, "services", values.requests.images) if install.images else None
        ),
    )


def _own_controller() -> str:
    return f"http://edgelm-controller.{views.SERVICES}.svc:{views.CONTROLLER_PORT}"


def _container(values: ClusterFile, image: str, request: RequestValue) -> Container:
    return Container(values.image(image), Request(request.cores, request.ram_gb))


def _daemon(values: ClusterFile, name: str) -> Container:
    return _container(values, name, getattr(values.requests, name))


def _check_names(testbed: TestbedFile) -> None:
    children = testbed.all.children
    hosts = (*children.control.hosts, *children.workers.hosts)
    wrong = [
        InputError(
            f"testbed {testbed.name}", "is no name of a Kubernetes node", field=name,
            remedy="use lower-case letters, digits, '-' and '.', as `kubectl get nodes` shows it",
        )
        for name in hosts
        if not KUBERNETES_NAME.fullmatch(name)
    ]  # fmt: skip
    if wrong:
        raise combine(f"testbed {testbed.name}", wrong)


def _check_requests(testbed: TestbedFile, values: ClusterFile) -> None:
    """Raise InputError unless each machine reserves what its daemons request, and the control node
    has room for controller and player in what it does not reserve."""
    source = f"testbed {testbed.name}"
    children = testbed.all.children
    wrong: list[InputError] = []
    for name, host in (*children.control.hosts.items(), *children.workers.hosts.items()):
        reserved = host.reserved
        for what, room in (("cores", reserved.cores), ("ram_gb", reserved.ram_gb)):
            wrong += _excess(
                source, f"{name}.edgelm_reserved.{what}", what, room, _daemons_of(host, values),
                "reserve more, or request less",
            )  # fmt: skip
    central = [_request("controller", values), _request("player", values)]
    for name, host in children.control.hosts.items():
        for what, room in (("cores", host.allocatable_cores), ("ram_gb", host.allocatable_ram_gb)):
            wrong += _excess(
                source, f"{name}.edgelm_{what}", what, room, central,
                "the machine less edgelm_reserved must hold them",
            )  # fmt: skip
    if wrong:
        raise combine(source, wrong)


def _daemons_of(host: Host, values: ClusterFile) -> list[Daemon]:
    """Return the daemons that manifests put on a machine, apart from controller and player."""
    install = values.install
    found = [_request("node_exporter", values)] if install.node_exporter else []
    if isinstance(host, Worker):
        found += [_request("node", values)]
        found += [_request("images", values)] if install.images else []
        if host.gpus is not None:
            found += [_request("dcgm_exporter", values)] if install.dcgm_exporter else []
            found += [_request("device_plugin", values)] if install.device_plugin else []
    return found


def _request(name: str, values: ClusterFile) -> Daemon:
    request: RequestValue = getattr(values.requests, name)
    return Daemon(name, request.cores, request.ram_gb)


def _excess(
    source: str, field: str, what: str, room: float, daemons: list[Daemon], remedy: str
) -> list[InputError]:
    amounts = {one.name: getattr(one, what) for one in daemons}
    asked = sum(amounts.values())
    if asked <= room + SLACK:
        return []
    parts = " + ".join(f"{name} {amount:g}" for name, amount in amounts.items())
    problem = f"is less than the {asked:g} that daemons request ({parts})"
    return [InputError(source, problem, field=field, value=round(room, 6), remedy=remedy)]


def write_manifests(files: Files, folder: Path) -> None:
    """Write the files.

    Raises:
        InputError: the folder cannot be written, or has a kustomization of somebody else's.
    """
    kept = folder / manifests.KUSTOMIZATION
    try:
        if kept.exists() and not set(manifests_in(kept)) & set(files):
            raise InputError(
                "--out", "has a kustomization that is not edgelm's", value=str(folder),
                remedy="give another folder",
            )  # fmt: skip
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            "--out", f"cannot be written: {error.strerror}", value=str(folder),
            remedy="give a folder of your own",
        ) from error  # fmt: skip


def manifests_in(kustomization: Path) -> list[str]:
    """Return the resources that a kustomization names."""
    return re.findall(r"^\s*- (\S+)$", kustomization.read_text(encoding="utf-8"), re.MULTILINE)

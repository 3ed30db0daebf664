"""Everything that ``kubectl apply -k`` takes, rendered without a cluster.

A template of templates/k8s/ has one view here and no logic beyond loops and formatting.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.telemetry import names
from controller.testbed.kubernetes.dashboards import dashboards
from controller.testbed.kubernetes.templates import object_templates

if TYPE_CHECKING:
    from jinja2 import Environment

SERVICES: Final = "edgelm"
LMS: Final = "edgelm-lms"
SYSTEM: Final = "edgelm-system"
LM_PRIORITY: Final = "edgelm-lm"
SERVICE_PRIORITY: Final = "edgelm-service"
STORAGE_CLASS: Final = "edgelm-local"
LM_PORT: Final = 8001
UID: Final = 10001  # of services and LM servers alike, so that both write the same folders
CONTROLLER_PORT: Final = 8700
PLUGIN_SOCKETS: Final = "/var/lib/kubelet/device-plugins"
KUSTOMIZATION: Final = "kustomization.yaml"

Files = dict[str, str]  # name below the folder -> content


def data_claim(node: str) -> str:
    """Return the name of the claim of a node's data folder."""
    return f"edgelm-data-{node}"


def weights_claim(node: str) -> str:
    """Return the name of the claim of a node's weights."""
    return f"edgelm-weights-{node}"


@dataclass(frozen=True, slots=True)
class Request:
    """Cores and RAM that a container requests."""

    cores: float
    ram_gb: float

    @property
    def cpu(self) -> str:
        """Cores as Kubernetes writes them."""
        return f"{round(self.cores * 1000)}m"

    @property
    def memory(self) -> str:
        """RAM as Kubernetes writes it."""
        return f"{math.ceil(self.ram_gb * 1000)}M"


@dataclass(frozen=True, slots=True)
class Container:
    """Image of a daemon and what it requests."""

    image: str
    request: Request


@dataclass(frozen=True, slots=True)
class Worker:
    """Worker node. ``slices``: offered of each of its ``gpus``; 0 without GPUs."""

    name: str
    gpus: int = 0
    slices: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Testbed and cluster that manifests are rendered for.

    Daemons that are None are the cluster's own, and not rendered.
    """

    control: str
    workers: tuple[Worker, ...]
    kubernetes: str
    resize: bool  # cores change in place
    lm_images: tuple[str, ...]  # each by its digest
    weights_gb: int
    data_gb: int
    prefix: str  # of edgelm's folders on each host
    weights: bool  # engines are real
    pull_policy: str
    pull_secret: str
    runtime_class: str  # of pods with GPUs; "" for the default
    makes_runtime_class: bool
    node_port: int
    controller_url: str
    slot_s: float
    exporters: bool  # read by the controller
    documentation: str
    clients: tuple[str, ...]
    egress: tuple[str, ...]
    monitoring: str  # plain, operator, none
    monitoring_namespace: str
    node: Container
    controller: Container
    player: Container
    node_exporter: Container | None
    dcgm_exporter: Container | None
    device_plugin: Container | None
    pulling: Container | None

    @property
    def gpu_nodes(self) -> tuple[str, ...]:
        """Names of the workers with GPUs."""
        return tuple(one.name for one in self.workers if one.gpus)

    @property
    def cpu_nodes(self) -> tuple[str, ...]:
        """Names of the workers without."""
        return tuple(one.name for one in self.workers if not one.gpus)


@dataclass(frozen=True, slots=True)
class NamespacesView:
    """View of namespaces.yaml."""

    kubernetes: str
    services: str = SERVICES
    lms: str = LMS
    system: str = SYSTEM


@dataclass(frozen=True, slots=True)
class PrioritiesView:
    """View of priorities.yaml."""

    service: str = SERVICE_PRIORITY
    lm: str = LM_PRIORITY


@dataclass(frozen=True, slots=True)
class RuntimeClassView:
    """View of runtime-class.yaml."""

    name: str


@dataclass(frozen=True, slots=True)
class AccountsView:
    """View of accounts.yaml."""

    resize: bool
    services: str = SERVICES
    lms: str = LMS


@dataclass(frozen=True, slots=True)
class HostPaths:
    """Folders of the host that a namespace's pods may mount: these, and all below the prefixes."""

    name: str
    namespace: str
    paths: tuple[str, ...]
    prefixes: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The rule in words."""
        below = (f"{prefix} or below" for prefix in self.prefixes)
        exact = (path for path in self.paths if path not in self.prefixes)
        return ", or ".join((*below, *exact))


@dataclass(frozen=True, slots=True)
class AdmissionView:
    """View of admission.yaml."""

    host_paths: tuple[HostPaths, ...]
    services: str = SERVICES
    lms: str = LMS


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder of a node as a volume, and the claim of the same name that takes it."""

    name: str
    node: str
    path: str
    gb: int
    mode: str


@dataclass(frozen=True, slots=True)
class StorageView:
    """View of storage.yaml."""

    volumes: tuple[Volume, ...]
    storage_class: str = STORAGE_CLASS
    lms: str = LMS


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Workers whose node services are alike."""

    name: str
    nodes: tuple[str, ...]
    gpus: bool
    runtime_class: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """View of node.yaml. ``images``: a line for each."""

    groups: tuple[NodeGroup, ...]
    image: str
    request: Request
    images: str
    images_checksum: str
    controller: str
    port: int
    weights: bool
    resize: bool
    prefix: str
    pull_policy: str
    pull_secret: str
    user: int = UID
    namespace: str = SERVICES
    lms: str = LMS
    priority: str = SERVICE_PRIORITY


@dataclass(frozen=True, slots=True)
class CentralView:
    """View of controller.yaml and of player.yaml. ``port``: the controller's."""

    node: str
    image: str
    request: Request
    controller: str
    prefix: str
    pull_policy: str
    pull_secret: str
    exporters: bool
    port: int = CONTROLLER_PORT
    user: int = UID
    namespace: str = SERVICES
    lms: str = LMS
    priority: str = SERVICE_PRIORITY


@dataclass(frozen=True, slots=True)
class ImagesView:
    """View of images.yaml."""

    nodes: tuple[str, ...]
    images: tuple[str, ...]
    image: str
    request: Request
    pull_policy: str
    pull_secret: str
    user: int = UID
    namespace: str = SERVICES
    priority: str = SERVICE_PRIORITY


@dataclass(frozen=True, slots=True)
class ExportersView:
    """View of exporters.yaml."""

    nodes: tuple[str, ...]
    gpu_nodes: tuple[str, ...]
    node_exporter: Container | None
    dcgm_exporter: Container | None
    runtime_class: str
    pull_policy: str
    namespace: str = SYSTEM
    priority: str = SERVICE_PRIORITY


@dataclass(frozen=True, slots=True)
class SlicingView:
    """View of time-slicing.yaml, the device plugin's own file."""

    slices: int


@dataclass(frozen=True, slots=True)
class SharingView:
    """View of gpu-sharing.yaml. ``configs``: node and the device plugin's file for it."""

    configs: tuple[tuple[str, str], ...]
    image: str
    request: Request
    runtime_class: str
    pull_policy: str
    namespace: str = SYSTEM

    @property
    def checksum(self) -> str:
        """Digest of the files: a change rolls the plugin."""
        return _checksum(json.dumps(self.configs))


@dataclass(frozen=True, slots=True)
class NetworkView:
    """View of network.yaml. ``monitoring``: namespace that scrapes, "" for none."""

    node_port: int
    monitoring: str
    clients: tuple[str, ...]
    egress: tuple[str, ...]
    controller_port: int = CONTROLLER_PORT
    lm_port: int = LM_PORT
    services: str = SERVICES
    lms: str = LMS
    system: str = SYSTEM


@dataclass(frozen=True, slots=True)
class Job:
    """A group of targets that Prometheus scrapes."""

    name: str
    namespace: str

    @property
    def app(self) -> str:
        """Name in the label of its pods."""
        return self.name


@dataclass(frozen=True, slots=True)
class ScrapeView:
    """View of scrape.yaml."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class MonitorsView:
    """View of monitors.yaml. ``alerts``: the rules, as text."""

    jobs: tuple[Job, ...]
    alerts: str
    system: str = SYSTEM


@dataclass(frozen=True, slots=True)
class AlertsView:
    """View of alerts.yaml. ``gpus``: node and number of its GPUs; names of metrics."""

    nodes: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...]
    two_slots: str
    twenty_slots: str
    documentation: str
    pods: str = names.NODE_PODS.name
    decisions: str = names.DECISIONS.name
    store_away: str = names.STORE_AWAY.name
    gpu_busy: str = names.GPU_BUSY.name


@dataclass(frozen=True, slots=True)
class DashboardsView:
    """View of dashboards.yaml: name and JSON of each."""

    dashboards: tuple[tuple[str, str], ...]
    namespace: str = SYSTEM


@dataclass(frozen=True, slots=True)
class KustomizationView:
    """View of kustomization.yaml: what is applied, in this order."""

    files: tuple[str, ...]


@dataclass(slots=True)
class _Rendering:
    """Files rendered so far, and those among them that are applied."""

    environment: Environment
    files: Files = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)

    def text(self, template: str, view: object) -> str:
        return self.environment.get_template(f"{template}.j2").render(view=view)

    def apply(self, name: str, view: object) -> None:
        self.files[name] = self.text(name, view)
        self.applied.append(name)


def render(cluster: Cluster, templates: Path) -> Files:
    """Return the files of a folder for ``kubectl apply -k``.

    Args:
        templates: the folder templates/k8s.
    """
    out = _Rendering(object_templates(templates))
    out.apply("namespaces.yaml", NamespacesView(cluster.kubernetes))
    out.apply("priorities.yaml", PrioritiesView())
    if cluster.makes_runtime_class and cluster.gpu_nodes:
        out.apply("runtime-class.yaml", RuntimeClassView(cluster.runtime_class))
    out.apply("accounts.yaml", AccountsView(cluster.resize))
    out.apply("admission.yaml", AdmissionView(_host_paths(cluster)))
    out.apply("network.yaml", _network(cluster))
    out.apply("storage.yaml", StorageView(tuple(_volumes(cluster))))
    _render_daemons(cluster, out)
    out.apply("controller.yaml", _central(cluster, cluster.controller))
    out.apply("player.yaml", _central(cluster, cluster.player))
    out.apply("node.yaml", _node(cluster))
    _render_monitoring(cluster, out)
    out.files[KUSTOMIZATION] = out.text(KUSTOMIZATION, KustomizationView(tuple(out.applied)))
    return out.files


def applied(files: Mapping[str, str], kustomization: str = KUSTOMIZATION) -> str:
    """Return all objects of rendered files as one stream of YAML, in the order of application."""
    import yaml

    listed = yaml.safe_load(files[kustomization])["resources"]
    return "---\n".join(files[name] for name in listed)


def _render_daemons(cluster: Cluster, out: _Rendering) -> None:
    machines = (cluster.control, *(one.name for one in cluster.workers))
    gpu_nodes = cluster.gpu_nodes
    dcgm = cluster.dcgm_exporter if gpu_nodes else None
    if cluster.node_exporter or dcgm:
        view = ExportersView(
            machines, gpu_nodes, cluster.node_exporter, dcgm, cluster.runtime_class,
            cluster.pull_policy,
        )  # fmt: skip
        out.apply("exporters.yaml", view)
    if cluster.device_plugin and gpu_nodes:
        plugin = cluster.device_plugin
        configs = tuple(
            (one.name, out.text("time-slicing.yaml", SlicingView(one.slices)))
            for one in cluster.workers
            if one.gpus
        )
        sharing = SharingView(
            configs, plugin.image, plugin.request, cluster.runtime_class, cluster.pull_policy
        )
        out.apply("gpu-sharing.yaml", sharing)
    if cluster.pulling and cluster.lm_images:
        workers = tuple(one.name for one in cluster.workers)
        images = ImagesView(
            workers, cluster.lm_images, cluster.pulling.image, cluster.pulling.request,
            cluster.pull_policy, cluster.pull_secret,
        )  # fmt: skip
        out.apply("images.yaml", images)


def _render_monitoring(cluster: Cluster, out: _Rendering) -> None:
    if cluster.monitoring == "none":
        return
    jobs = [Job("edgelm-controller", SERVICES), Job("edgelm-node", SERVICES)]
    jobs += [Job("node-exporter", SYSTEM)] if cluster.node_exporter else []
    jobs += [Job("dcgm-exporter", SYSTEM)] if cluster.dcgm_exporter and cluster.gpu_nodes else []
    alerts = out.text("alerts.yaml", _alerts(cluster))
    if cluster.monitoring == "operator":
        out.apply("monitors.yaml", MonitorsView(tuple(jobs), alerts))
    else:
        out.files["prometheus/scrape.yaml"] = out.text("scrape.yaml", ScrapeView(tuple(jobs)))
        out.files["prometheus/alerts.yaml"] = alerts
    made = tuple((f"{name}.json", text) for name, text in dashboards().items())
    out.files |= {f"dashboards/{name}": text for name, text in made}
    out.apply("dashboards.yaml", DashboardsView(made))


def _host_paths(cluster: Cluster) -> tuple[HostPaths, ...]:
    return (
        HostPaths("edgelm-own-folder", SERVICES, (cluster.prefix,), (cluster.prefix,)),
        HostPaths("edgelm-system-folders", SYSTEM, ("/", PLUGIN_SOCKETS), ()),
    )


def _volumes(cluster: Cluster) -> list[Volume]:
    return [
        volume
        for node in (one.name for one in cluster.workers)
        for volume in (
            Volume(
                data_claim(node), node, f"{cluster.prefix}/data", cluster.data_gb, "ReadWriteOnce"
            ),
            Volume(
                weights_claim(node), node, f"{cluster.prefix}/weights", cluster.weights_gb,
                "ReadOnlyMany",
            ),
        )
    ]  # fmt: skip


def _node(cluster: Cluster) -> NodeView:
    groups = (
        NodeGroup("edgelm-node", cluster.cpu_nodes, gpus=False, runtime_class=""),
        NodeGroup("edgelm-node-gpu", cluster.gpu_nodes, True, cluster.runtime_class),
    )
    images = "".join(f"{image}\n" for image in cluster.lm_images)
    return NodeView(
        groups=tuple(group for group in groups if group.nodes),
        image=cluster.node.image,
        request=cluster.node.request,
        images=images,
        images_checksum=_checksum(images),
        controller=cluster.controller_url,
        port=cluster.node_port,
        weights=cluster.weights,
        resize=cluster.resize,
        prefix=cluster.prefix,
        pull_policy=cluster.pull_policy,
        pull_secret=cluster.pull_secret,
    )


def _central(cluster: Cluster, service: Container) -> CentralView:
    return CentralView(
        node=cluster.control,
        image=service.image,
        request=service.request,
        controller=cluster.controller_url,
        prefix=cluster.prefix,
        pull_policy=cluster.pull_policy,
        pull_secret=cluster.pull_secret,
        exporters=cluster.exporters,
    )


def _network(cluster: Cluster) -> NetworkView:
    scraped_from = "" if cluster.monitoring == "none" else cluster.monitoring_namespace
    return NetworkView(cluster.node_port, scraped_from, cluster.clients, cluster.egress)


def _alerts(cluster: Cluster) -> AlertsView:
    with_gpus = ((one.name, one.gpus) for one in cluster.workers if one.gpus)
    return AlertsView(
        nodes=tuple(one.name for one in cluster.workers),
        gpus=tuple(with_gpus) if cluster.dcgm_exporter else (),
        two_slots=f"{math.ceil(2 * cluster.slot_s)}s",
        twenty_slots=f"{math.ceil(20 * cluster.slot_s)}s",
        documentation=cluster.documentation,
    )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Everything that ``kubectl apply -k`` takes, rendered without a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.testbed.kubernetes.dashboards import dashboards
from controller.testbed.kubernetes.templates import object_templates
from controller.testbed.kubernetes.views import (
    PLUGIN_SOCKETS,
    SERVICES,
    SYSTEM,
    AccountsView,
    AdmissionView,
    AlertsView,
    CentralView,
    Container,
    DashboardsView,
    ExportersView,
    HostPaths,
    ImagesView,
    Job,
    KustomizationView,
    MonitorsView,
    NamespacesView,
    NetworkView,
    NodeGroup,
    NodeView,
    PrioritiesView,
    RuntimeClassView,
    ScrapeView,
    SharingView,
    SlicingView,
    StorageView,
    Volume,
    checksum_of,
)

if TYPE_CHECKING:
    from jinja2 import Environment

KUSTOMIZATION: Final = "kustomization.yaml"

Files = dict[str, str]  # name below the folder -> content


def data_claim(node: str) -> str:
    """Return the name of the claim of a node's data folder."""
    return f"edgelm-data-{node}"


def weights_claim(node: str) -> str:
    """Return the name of the claim of a node's weights."""
    return f"edgelm-weights-{node}"


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
    front_port: int | None  # of every worker; None: no front door
    users: tuple[str, ...]  # networks that may reach it
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
        images_checksum=checksum_of(images),
        controller=cluster.controller_url,
        port=cluster.node_port,
        weights=cluster.weights,
        resize=cluster.resize,
        prefix=cluster.prefix,
        pull_policy=cluster.pull_policy,
        pull_secret=cluster.pull_secret,
        front_port=cluster.front_port,
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
    return NetworkView(
        cluster.node_port, scraped_from, cluster.clients, cluster.egress, cluster.front_port,
        cluster.users,
    )  # fmt: skip


def _alerts(cluster: Cluster) -> AlertsView:
    with_gpus = ((one.name, one.gpus) for one in cluster.workers if one.gpus)
    return AlertsView(
        nodes=tuple(one.name for one in cluster.workers),
        gpus=tuple(with_gpus) if cluster.dcgm_exporter else (),
        two_slots=f"{math.ceil(2 * cluster.slot_s)}s",
        twenty_slots=f"{math.ceil(20 * cluster.slot_s)}s",
        documentation=cluster.documentation,
    )

"""Views of the templates of templates/k8s/: what each one shows, no logic beyond formatting."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Final

from controller.telemetry import names

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
    """View of node.yaml. ``images``: a line for each; ``front_port``: None for no front door."""

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
    front_port: int | None
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
        return checksum_of(json.dumps(self.configs))


@dataclass(frozen=True, slots=True)
class NetworkView:
    """View of network.yaml. ``monitoring``: namespace that scrapes, "" for none; ``users``:
    networks that may reach ``front_port``."""

    node_port: int
    monitoring: str
    clients: tuple[str, ...]
    egress: tuple[str, ...]
    front_port: int | None
    users: tuple[str, ...]
    controller_port: int = CONTROLLER_PORT
    lm_port: int = LM_PORT
    services: str = SERVICES
    lms: str = LMS
    system: str = SYSTEM


@dataclass(frozen=True, slots=True)
class EnforcementView:
    """View of enforcement.yaml. ``server``: the server's address, "" until it is known."""

    namespace: str
    image: str
    server: str = ""
    port: int = LM_PORT
    user: int = UID

    @property
    def serve(self) -> str:
        """Program of the server."""
        return (
            "import socketserver; socketserver.TCPServer.allow_reuse_address = True; "
            f"socketserver.TCPServer(('', {self.port}), socketserver.BaseRequestHandler)"
            ".serve_forever()"
        )

    @property
    def idle(self) -> str:
        """Program of the client: its probe does the work."""
        return "import time; time.sleep(3600)"

    @property
    def reach(self) -> str:
        """Program that fails if the server cannot be reached."""
        return f"import socket; socket.create_connection(({self.server!r}, {self.port}), 2)"


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


def checksum_of(text: str) -> str:
    """Return a digest that changes a template's annotation when ``text`` does."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Cluster files: values of the manifests that differ from one Kubernetes cluster to another.

All have defaults, so that an empty file, or none, describes a cluster made for edgelm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from controller.inputs.documents import parse, read_yaml
from controller.inputs.fields import Count, Flag, Positive, Record

Image = Annotated[
    str,
    StringConstraints(
        max_length=400,
        pattern=r"^[a-z0-9]+([._/:-][a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$",
    ),
    Field(description="an image such as registry/name:tag@sha256:DIGEST"),
]
LmImage = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9][a-z0-9._/:-]*/)?edgelm-[a-z]+@sha256:[0-9a-f]{64}$"),
    Field(description="REGISTRY/edgelm-TARGET@sha256:DIGEST, as build-images.sh prints it"),
]
Port = Annotated[int, Field(strict=True, ge=1, le=65535, description="a port, 1 to 65535")]
Label = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    Field(description="lower-case letters, digits and '-', 63 at most"),
]
OptionalLabel = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"),
    Field(description="lower-case letters, digits and '-', 63 at most; empty for none"),
]
Url = Annotated[
    str,
    StringConstraints(max_length=400, pattern=r"^(https?://[^/\s\"']+(/[^\s\"']*)?)?$"),
    Field(description="a URL such as http://HOST:8700; empty for the default"),
]
Cidr = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"),
    Field(description="a network such as 10.0.0.0/16"),
]
OLDEST = 32  # minor version whose tokens name their node


class Images(Record):
    """Images; those without a registry in their name are taken from ``registry``."""

    services: Image = Field(default="edgelm-services:latest", description="the command edgelm")
    lms: tuple[LmImage, ...] = Field(
        default=(), description="LM servers, as lm_dockerfiles/build-images.sh prints them"
    )
    node_exporter: Image = "quay.io/prometheus/node-exporter:v1.9.1"
    dcgm_exporter: Image = "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"
    device_plugin: Image = "nvcr.io/nvidia/k8s-device-plugin:v0.17.4"


class Request(Record):
    """Cores and RAM that a daemon requests."""

    cores: Positive
    ram_gb: Positive


class Requests(Record):
    """Requests of the services and daemons; a machine's edgelm_reserved must hold their sum."""

    node: Request = Request(cores=0.25, ram_gb=0.4)
    controller: Request = Request(cores=0.5, ram_gb=0.8)
    player: Request = Request(cores=0.1, ram_gb=0.2)
    node_exporter: Request = Request(cores=0.05, ram_gb=0.05)
    dcgm_exporter: Request = Request(cores=0.1, ram_gb=0.25)
    device_plugin: Request = Request(cores=0.05, ram_gb=0.06)
    images: Request = Request(cores=0.01, ram_gb=0.02)


class Storage(Record):
    """Folders of the nodes."""

    prefix: Annotated[
        str,
        StringConstraints(pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$"),
        Field(description="absolute path of two parts or more, such as /var/lib/edgelm"),
    ] = "/var/lib/edgelm"
    data_gb: Count = Field(default=10, description="nominal size of a worker's data volume")


class Network(Record):
    """Traffic beyond that of edgelm's own pods."""

    clients: tuple[Cidr, ...] = Field(
        default=(), description="networks that may reach controller and node services"
    )
    egress: tuple[Cidr, ...] = Field(
        default=(), description="networks that services may reach: reasoners, MongoDB, collectors"
    )


class FrontDoor(Record):
    """Port of each worker at which users reach the OpenAI-compatible front door."""

    port: Port | None = Field(default=None, description="a port of every worker; null for none")
    users: tuple[Cidr, ...] = Field(
        default=("0.0.0.0/0",), description="networks from which users may reach it"
    )


class Monitoring(Record):
    """Prometheus of the cluster."""

    kind: Literal["plain", "operator", "none"] = Field(
        default="plain",
        description="plain (files for a Prometheus of your own), operator (its objects) or none",
    )
    namespace: Label = Field(default="monitoring", description="where Prometheus runs")


class Install(Record):
    """Daemons that a cluster may have already."""

    device_plugin: Flag = True
    node_exporter: Flag = True
    dcgm_exporter: Flag = True
    runtime_class: Flag = True
    images: Flag = Field(default=True, description="true: LM images are pulled ahead of use")


class ClusterFile(Record):
    """Values of the manifests."""

    kubernetes: Annotated[
        str,
        StringConstraints(pattern=r"^1\.[0-9]{1,3}$"),
        Field(description="version of the cluster, such as '1.36', in quotes"),
    ] = "1.36"
    registry: Image = "localhost:5000"
    images: Images = Images()
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="Always, IfNotPresent or Never"
    )
    pull_secret: OptionalLabel = ""
    runtime_class: OptionalLabel = "nvidia"
    storage: Storage = Storage()
    engines: Literal["live", "emulated"] = Field(
        default="live", description="live (weights) or emulated"
    )
    node_port: Port = 8701
    controller_url: Url = ""
    slot_s: Positive = 30.0
    exporters: Flag = Field(
        default=True, description="true: the controller reads node and DCGM exporters"
    )
    network: Network = Network()
    front_door: FrontDoor = FrontDoor()
    monitoring: Monitoring = Monitoring()
    install: Install = Install()
    requests: Requests = Requests()
    documentation: Url = Field(default="", description="URL before docs/ in links; empty for none")

    @model_validator(mode="after")
    def _has_a_port_for_each(self) -> Self:
        if self.front_door.port == self.node_port:
            raise ValueError(
                f"front_door.port and node_port are both {self.node_port}: give the front door "
                "a port of its own"
            )
        return self

    @model_validator(mode="after")
    def _is_young_enough(self) -> Self:
        if self.minor < OLDEST:
            raise ValueError(
                f"kubernetes {self.kubernetes} is too old: tokens name their node, which the "
                f"policy of nodes needs, since 1.{OLDEST}; upgrade the cluster"
            )
        return self

    @property
    def minor(self) -> int:
        """Minor version of Kubernetes."""
        return int(self.kubernetes.partition(".")[2])

    def image(self, name: str) -> str:
        """Return the whole name of one image of :class:`Images`."""
        return self._whole(getattr(self.images, name))

    @property
    def lm_images(self) -> tuple[str, ...]:
        """Whole names of the LM servers' images."""
        return tuple(map(self._whole, self.images.lms))

    def _whole(self, image: str) -> str:
        host, slash, _ = image.partition("/")
        return image if slash and ("." in host or ":" in host) else f"{self.registry}/{image}"


def load_cluster(path: Path | None) -> ClusterFile:
    """Return the values in a file, the defaults without one.

    Raises:
        InputError: it cannot be read, or a value is wrong; names file, field, value and remedy.
    """
    if path is None:
        return ClusterFile()
    return parse(ClusterFile, str(path), read_yaml(path) or {})

"""Cloud files: values of a bring-up that differ from one OpenStack project to another.

All have defaults, so that none is needed where the provider has what most have.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from controller.inputs.documents import parse, read_yaml
from controller.inputs.fields import Model, Name, Record

Network = Annotated[IPv4Network, Field(description="an IPv4 network such as 10.77.0.0/24")]
Address = Annotated[IPv4Address, Field(description="an IPv4 address such as 192.0.2.53")]
Word = Annotated[
    str,
    StringConstraints(max_length=255, pattern=r"^\S(.*\S)?$"),
    Field(description="a name, or an id where several have that name"),
]
User = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"),
    Field(description="the image's user with sudo, such as ubuntu or debian"),
]
SMALLEST = 28  # bits of a network that has room for gateway, DHCP and a few machines


class CloudFile(Record):
    """Values of a bring-up on OpenStack."""

    image: Word = Field(default="ubuntu-24.04", description="image of all machines, name or id")
    user: User = "ubuntu"
    external_network: Word | None = Field(
        default=None, description="network of the floating address; the only external one if absent"
    )
    network: Network = IPv4Network("10.77.0.0/24")
    pods: Network = IPv4Network("10.244.0.0/16")
    services: Network = IPv4Network("10.96.0.0/12")
    cni: Literal["vxlan", "routes"] = Field(
        default="vxlan",
        description="vxlan (an overlay) or routes (pods' addresses on the wire; each port then "
        "lets them pass)",
    )
    mtu: Annotated[int, Field(strict=True, ge=1280, le=9216)] | None = Field(
        default=None, description="MTU of the network, 1280 to 9216; the cloud's own if absent"
    )
    dns: tuple[Address, ...] = Field(
        default=(), description="name servers; the cloud's own if empty"
    )
    access: tuple[Network, ...] = Field(
        default=(IPv4Network("0.0.0.0/0"),),
        min_length=1,
        description="networks that may reach the control machine by SSH",
    )
    flavors: dict[Name, Word] = Field(
        default={}, description="machine: flavour, where the match is not the one wanted"
    )
    gpu_aliases: dict[Model, Word] = Field(
        default={}, description="GPU's model: alias in pci_passthrough:alias"
    )
    zones: dict[Name, Word] = Field(default={}, description="site: availability zone")

    @model_validator(mode="after")
    def _ranges_are_apart(self) -> Self:
        ranges = {"network": self.network, "pods": self.pods, "services": self.services}
        names = list(ranges)
        for k, one in enumerate(names):
            for other in names[k + 1 :]:
                if ranges[one].overlaps(ranges[other]):
                    raise ValueError(
                        f"{one} {ranges[one]} overlaps {other} {ranges[other]}; give each a range "
                        "of its own"
                    )
        if self.network.prefixlen > SMALLEST:
            raise ValueError(f"network {self.network} is too small; /{SMALLEST} or larger")
        return self


def load_cloud(path: Path | None) -> CloudFile:
    """Return the values in a file, the defaults without one.

    Raises:
        InputError: it cannot be read, or a value is wrong; names file, field, value and remedy.
    """
    if path is None:
        return CloudFile()
    return parse(CloudFile, str(path), read_yaml(path) or {})

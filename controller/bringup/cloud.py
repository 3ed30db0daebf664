"""OpenStack asked, as one of a project's members: reading only, and errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from controller.bringup import project as kinds
from controller.bringup.flavours import Flavour, devices_of
from controller.bringup.marks import lock_name, mark, unique_name
from controller.bringup.project import Image, Project, Room, Thing
from controller.domain.errors import InputError, Permanent

COMPUTE: Final = {
    "cores": ("total_cores", "total_cores_used"),
    "RAM in MB": ("total_ram", "total_ram_used"),
    "servers": ("instances", "instances_used"),
    "server groups": ("server_groups", "server_groups_used"),
}
NETWORK: Final = {
    "networks": "networks",
    "subnets": "subnets",
    "routers": "routers",
    "ports": "ports",
    "floating addresses": "floating_ips",
    "security groups": "security_groups",
    "rules of security groups": "security_group_rules",
}


class Cloud:
    """A connection to a project. Made by :func:`connect`.

    Args:
        connection: openstacksdk's.
        name: the cloud in clouds.yaml.
    """

    def __init__(self, connection: Any, name: str) -> None:
        self.connection, self.name = connection, name

    @property
    def project_id(self) -> str:
        return str(self.connection.current_project_id)

    def read(self, testbed: str) -> Project:
        """Return the project as a plan needs it. Every call is a GET.

        Raises:
            InputError: the credentials are refused.
            Permanent: the cloud does not answer.
        """
        with explained(self.name):
            own = tuple(self.own(testbed))
            external = tuple(_external(self.connection))
            return Project(
                cloud=self.name,
                region=self.connection.config.get_region_name() or "",
                id=self.project_id,
                name=self.connection.current_project.name or "",
                flavours=tuple(_flavours(self.connection)),
                images=tuple(_images(self.connection)),
                external=external,
                external_ranges={one.id: self._ranges(one.id) for one in external},
                zones=tuple(
                    sorted(
                        one.name for one in self.connection.compute.availability_zones()
                        if one.state.get("available")
                    )
                ),
                rooms=self._rooms(),
                own=own,
                others=tuple(self._others({one.id for one in own}, lock_name(testbed))),
            )  # fmt: skip

    def own(self, testbed: str) -> Iterator[Thing]:
        """Yield what carries a testbed's mark, in the order in which it can be deleted."""
        tag, network = mark(testbed), self.connection.network
        ours = partial(_in_project, self.project_id)
        servers = self.connection.compute.servers(details=True, tags=tag)
        yield from (_server(one) for one in servers)
        for one in ours(network.ips(description=tag)):
            yield Thing(kinds.FLOATING, one.id, one.floating_ip_address)
        for one in ours(network.routers(description=tag)):
            yield Thing(kinds.ROUTER, one.id, one.name)
        for one in ours(network.ports(description=tag)):
            address = one.fixed_ips[0]["ip_address"] if one.fixed_ips else ""
            yield Thing(kinds.PORT, one.id, one.name, {"address": address})
        for one in ours(network.subnets(description=tag)):
            yield Thing(kinds.SUBNET, one.id, one.name, {"cidr": one.cidr})
        networks = list(ours(network.networks(description=tag)))
        for one in networks:
            yield Thing(kinds.NETWORK, one.id, one.name, {"mtu": one.mtu})
        for one in ours(network.security_groups(description=tag)):
            yield Thing(kinds.SECURITY_GROUP, one.id, one.name)
        yield from self._unmarked({unique_name(testbed, one.id) for one in networks})

    def _unmarked(self, names: set[str]) -> Iterator[Thing]:
        """Yield what takes no mark, by names that only a testbed's network gives."""
        for one in self.connection.compute.server_groups():
            if one.name in names:
                yield Thing(kinds.SERVER_GROUP, one.id, one.name)
        for one in self.connection.compute.keypairs():
            if one.name in names:
                yield Thing(kinds.KEYPAIR, one.name, one.name, {"fingerprint": one.fingerprint})

    def strangers(self, testbed: str) -> list[Thing]:
        """Return ports in a testbed's network that edgelm did not make: with them, the network
        cannot be deleted."""
        own = list(self.own(testbed))
        networks = [one.id for one in own if one.kind == kinds.NETWORK]
        known = {one.id for one in own}
        return [
            Thing(kinds.PORT, one.id, one.name or "without a name", {"owner": one.device_owner})
            for network in networks
            for one in self.connection.network.ports(network_id=network)
            if one.id not in known and not (one.device_owner or "").startswith("network:")
        ]

    def _ranges(self, network_id: str) -> tuple[str, ...]:
        subnets = self.connection.network.subnets(network_id=network_id, ip_version=4)
        return tuple(one.cidr for one in subnets)

    def _rooms(self) -> dict[str, Room]:
        limits = self.connection.compute.get_limits().absolute
        found = {
            what: _room(getattr(limits, limit), getattr(limits, used))
            for what, (limit, used) in COMPUTE.items()
        }
        keypairs = sum(1 for _ in self.connection.compute.keypairs())
        found["keypairs"] = _room(limits.keypairs, keypairs)
        quota = self.connection.network.get_quota(self.project_id, details=True)
        for what, name in NETWORK.items():
            value = getattr(quota, name) or {}
            if value:
                found[what] = _room(value["limit"], value["used"] + int(value.get("reserved", 0)))
        return {what: room for what, room in found.items() if room is not None}

    def _others(self, own: set[str], lock: str) -> Iterator[Thing]:
        """Yield what stays as it is, whatever its name."""
        ours = partial(_in_project, self.project_id)
        network = self.connection.network
        for kind, found in (
            (kinds.SERVER, self.connection.compute.servers(details=False)),
            (kinds.NETWORK, ours(network.networks())),
            (kinds.ROUTER, ours(network.routers())),
            (kinds.PORT, ours(network.ports())),
            (kinds.SECURITY_GROUP, ours(network.security_groups())),
        ):
            for one in found:
                owner = getattr(one, "device_owner", "") or ""
                if one.id not in own and one.name != lock and not owner.startswith("network:"):
                    yield Thing(kind, one.id, one.name)
        for one in ours(network.ips()):
            if one.id not in own:
                yield Thing(kinds.FLOATING, one.id, one.floating_ip_address)


def connect(name: str) -> Cloud:
    """Return a connection to a cloud of clouds.yaml.

    Raises:
        InputError: there is no such cloud, or it refuses the credentials.
        Permanent: it does not answer.
    """
    import openstack

    try:
        connection = openstack.connect(cloud=name, app_name="edgelm")
    except openstack.exceptions.ConfigException as error:
        known = sorted({*openstack.config.OpenStackConfig().get_cloud_names()} - {"defaults"})
        raise InputError(
            "clouds.yaml", "has no such cloud" if name not in known else str(error),
            field="--cloud", value=name,
            remedy=f"it has {', '.join(known) or 'none'}; OS_CLIENT_CONFIG_FILE names another file",
        ) from error  # fmt: skip
    with explained(name):
        if not connection.current_project_id:
            raise InputError("clouds.yaml", "names no project", field=name,
                             remedy="add project_name to its auth")  # fmt: skip
        return Cloud(connection, name)


@contextlib.contextmanager
def explained(cloud: str) -> Iterator[None]:
    """Turn the errors of OpenStack's client into ours."""
    from keystoneauth1 import exceptions as identity
    from openstack import exceptions

    try:
        yield
    except (identity.Unauthorized, exceptions.HttpException) as error:
        status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
        if status == 401:
            raise InputError(
                f"cloud {cloud}", "refuses the credentials: they are wrong or have expired",
                remedy="get new ones, say a new application credential, into clouds.yaml",
            ) from error  # fmt: skip
        raise Permanent(f"cloud {cloud} refuses: {_said(error)}") from error
    except (identity.MissingRequiredOptions, identity.NoMatchingPlugin) as error:
        raise InputError("clouds.yaml", f"lacks something: {_said(error)}", field=cloud) from error
    except (identity.ClientException, exceptions.SDKException) as error:
        raise Permanent(
            f"cloud {cloud} does not answer: {_said(error)}; is auth_url in clouds.yaml right, and "
            "the network there?"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _in_project(project_id: str, found: Any) -> Iterator[Any]:
    return (one for one in found if one.project_id == project_id)


def _room(limit: int | None, used: int | None) -> Room | None:
    return None if limit is None else Room(None if limit < 0 else limit, used or 0)


def _flavours(connection: Any) -> Iterator[Flavour]:
    for one in connection.compute.flavors(get_extra_specs=True):
        devices = devices_of(one.extra_specs or {})
        yield Flavour(one.name, one.id, one.vcpus, one.ram, one.disk, devices)


def _images(connection: Any) -> Iterator[Image]:
    for one in connection.image.images(status="active"):
        system = f"{one.os_distro or ''} {one.os_version or ''}".strip().lower()
        yield Image(one.name or "", one.id, system, one.min_disk or 0, one.min_ram or 0)


def _external(connection: Any) -> Iterator[Thing]:
    for one in connection.network.networks(is_router_external=True):
        yield Thing(kinds.NETWORK, one.id, one.name)


def _server(one: Any) -> Thing:
    detail = {
        "flavour": one.flavor.get("original_name") or "",
        "zone": one.availability_zone or "",
        "status": one.status,
        "placed": bool(one.launched_at),
        "fault": (one.fault or {}).get("message", ""),
    }
    return Thing(kinds.SERVER, one.id, one.name, detail)

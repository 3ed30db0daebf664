"""Addresses of machines in the testbed's network: stable when machines come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from controller.bringup.machines import Machine
from controller.domain.errors import InputError

FIRST: Final = 11  # of the machines; below are gateway, DHCP and the cloud's own


def assign(
    machines: Sequence[Machine], network: IPv4Network, existing: Mapping[str, str], source: str
) -> dict[str, str]:
    """Return machine -> address: the one that the testbed file fixes, that of a port that exists,
    else the next free one from the eleventh (fewer in a small network).

    Args:
        existing: machine -> address of its port; names of machines that are gone hold theirs.
        source: the testbed file, for errors.

    Raises:
        InputError: a fixed address is none of the network, is another machine's, or differs from
            its port's; or the network is full.
    """
    found: dict[str, str] = {}
    for one in machines:
        if one.fixed_address:
            _check_fixed(one, network, existing, found, source)
            found[one.name] = one.fixed_address
        elif one.name in existing:
            found[one.name] = existing[one.name]
    taken = {*found.values(), *existing.values()}
    room = list(network.hosts())
    first = FIRST if len(room) > 4 * FIRST else 4
    free = (str(address) for address in room[first - 1 : -1] if str(address) not in taken)
    for one in machines:
        if one.name not in found:
            address = next(free, None)
            if address is None:
                raise InputError(
                    source, f"has more machines than {network} has addresses",
                    remedy="give a larger network in the cloud file",
                )  # fmt: skip
            found[one.name] = address
    return {one.name: found[one.name] for one in machines}


def _check_fixed(
    machine: Machine, network: IPv4Network, existing: Mapping[str, str],
    others: Mapping[str, str], source: str,
) -> None:  # fmt: skip
    field, given = f"{machine.name}.ansible_host", machine.fixed_address
    try:
        inside = IPv4Address(given) in network
    except ValueError:
        inside = False
    if not inside:
        raise InputError(
            source, f"is no address of the network {network}", field=field, value=given,
            remedy="leave it out, or give the network that has it in the cloud file",
        )  # fmt: skip
    twice = [name for name, address in {**existing, **others}.items()
             if address == given and name != machine.name]  # fmt: skip
    if twice:
        raise InputError(source, f"is the address of {twice[0]}", field=field, value=given,
                         remedy="give each machine an address of its own")  # fmt: skip
    if existing.get(machine.name, given) != given:
        raise InputError(
            source, f"is not the address of its port, {existing[machine.name]}", field=field,
            value=given, remedy="leave it as it is, or remove the machine from the file first",
        )  # fmt: skip

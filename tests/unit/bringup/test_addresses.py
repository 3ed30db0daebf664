"""Addresses stay when machines come and go."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.bringup.addresses import assign
from controller.domain.errors import InputError
from tests.unit.bringup.grounds import machine

NETWORK = IPv4Network("10.77.0.0/24")


def test_machines_are_counted_from_eleven() -> None:
    machines = [machine(name=name) for name in ("vm1", "vm2")]
    assert assign(machines, NETWORK, {}, "file") == {"vm1": "10.77.0.11", "vm2": "10.77.0.12"}


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40), min_size=1))
def test_no_address_moves_and_none_is_given_twice(before: set[int], after: set[int]) -> None:
    first = assign([machine(name=f"vm{k}") for k in sorted(before)], NETWORK, {}, "file")
    second = assign([machine(name=f"vm{k}") for k in sorted(after)], NETWORK, first, "file")
    assert all(second[name] == first[name] for name in second if name in first)
    assert len(set(second.values())) == len(second)
    assert not {second[name] for name in second if name not in first} & set(first.values())
    assert all(IPv4Address(one) in NETWORK for one in second.values())


def test_the_files_own_address_is_taken_and_passed_over_by_others() -> None:
    machines = [machine(name="vm1"), machine(name="vm2", variables={"ansible_host": "10.77.0.11"})]
    assert assign(machines, NETWORK, {}, "file") == {"vm1": "10.77.0.12", "vm2": "10.77.0.11"}


@pytest.mark.parametrize(
    ("existing", "given_address", "message"),
    [
        ({}, "10.78.0.5", "is no address of the network 10.77.0.0/24"),
        ({}, "vm2.example", "is no address of the network"),
        ({"vm9": "10.77.0.20"}, "10.77.0.20", "is the address of vm9"),
        ({"vm2": "10.77.0.12"}, "10.77.0.13", "is not the address of its port, 10.77.0.12"),
    ],
)
def test_impossible_addresses_are_refused(
    existing: dict[str, str], given_address: str, message: str
) -> None:
    machines = [machine(name="vm2", variables={"ansible_host": given_address})]
    with pytest.raises(InputError, match=message):
        assign(machines, NETWORK, existing, "file")


def test_a_full_network_is_refused() -> None:
    machines = [machine(name=f"vm{k}") for k in range(20)]
    with pytest.raises(InputError, match=r"more machines than 10.77.0.0/28 has addresses"):
        assign(machines, IPv4Network("10.77.0.0/28"), {}, "file")

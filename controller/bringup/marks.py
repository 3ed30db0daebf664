"""Names and marks by which a testbed's things in a cloud are found again.

Everything in Neutron carries the mark as its description and every server has it as a tag: both
are given with the very call that creates it, so that a run that is killed between two calls
leaves nothing unmarked. Keypairs and server groups take no mark: the id of the testbed's network
is part of their names.
"""

from __future__ import annotations

from typing import Final

from controller.domain.errors import InputError

LONGEST: Final = 50  # characters of a testbed's name, for a tag of Nova has 60


def mark(testbed: str) -> str:
    """Return the description and tag of a testbed's things.

    Raises:
        InputError: the name is too long.
    """
    if len(testbed) > LONGEST:
        raise InputError("testbed", f"has a name of more than {LONGEST} characters", value=testbed,
                         remedy="shorten edgelm_testbed")  # fmt: skip
    return f"edgelm:{testbed}"


def base_name(testbed: str) -> str:
    """Return the name of a testbed's network, router, ..., and the beginning of all others."""
    return f"edgelm-{testbed}"


def unique_name(testbed: str, network_id: str) -> str:
    """Return the name of what takes no mark: keypair and server group."""
    return f"{base_name(testbed)}-{network_id[:8]}"


def lock_name(testbed: str) -> str:
    """Return the name of the security group that says who is at work."""
    return f"{base_name(testbed)}-lock"

"""The Pending rule (section V-D): while a pod of a node is pending, or a terminating one still
holds its resources, a change that needs more resources on that node is void. By the rule
``blocks: pending`` (:class:`controller.domain.rules.Rules`) terminating pods do not count.

The functions take and return scalars, and none calls another. So the testbed runs them as they are,
and the twin's kernel compiles the same ones.
"""

from __future__ import annotations

from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from controller.domain.state import OFF, POD_OFF, POD_PENDING, POD_STOPPING

SLACK: Final = 1e-9  # on sums of cores and GB


@overload
def blocks(state: int, stopping: bool = True) -> bool: ...


@overload
def blocks(state: NDArray[np.int64], stopping: bool = True) -> NDArray[np.bool_]: ...


def blocks(state: int | NDArray[np.int64], stopping: bool = True) -> bool | NDArray[np.bool_]:
    """Return True if a pod in this state (POD_*) blocks its node; elementwise for an array.
    ``stopping``: terminating pods do too."""
    return (state == POD_PENDING) | (stopping & (state == POD_STOPPING))


def needs_more(
    state: int, held_cores: float, held_vgpus: int, mode: int, cores: float, vgpus: int
) -> bool:
    """Return True if (mode, cores, vgpus) needs more than a pod has. A pod that is off or pending
    has nothing, so starting it always needs more; switching off never does."""
    return mode != OFF and (
        cores > held_cores + SLACK or vgpus > held_vgpus or state in (POD_OFF, POD_PENDING)
    )


def is_void(blocked: bool, more: bool) -> bool:
    """Return True if a change is void: its node is blocked and the change needs more."""
    return blocked and more

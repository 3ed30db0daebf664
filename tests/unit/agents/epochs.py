"""Epochs of a small cluster, written down instead of run: VM1 to VM3, LM1 and LM2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from controller.agents.cases import Case, make_case
from controller.domain.decisions import Decision, InForce, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from tests.reference.worlds import Model, node, world
from tests.unit.policies.states import idle

EPOCH = 4  # slots of 10 s
ALL_UP = ("VM1", "VM2", "VM3")


def cluster() -> Scenario:
    """A deadline of 100 s, so that T_norm is the mean latency in percent."""
    bare = world([node(), node(), node()], [Model(), Model()], tau_s=100.0)
    nodes = tuple(replace(each, name=f"VM{n + 1}") for n, each in enumerate(bare.testbed.nodes))
    lms = tuple(replace(lm, name=f"LM{i + 1}") for i, lm in enumerate(bare.testbed.lms))
    profile = replace(
        bare.profile, lms=dict(zip(("LM1", "LM2"), bare.profile.lms.values(), strict=True))
    )
    return replace(bare, testbed=replace(bare.testbed, nodes=nodes, lms=lms), profile=profile)


def policy(*shares: Sequence[float]) -> MacroPolicy:
    """Shares by LM over the nodes; a node may run what it gets a share of."""
    routing = np.array(shares).T
    return MacroPolicy(routing=routing, roles=routing > 0)


def holds(
    decision: Decision[MacroPolicy], in_force: InForce | None, slot: int, slot_s: float = 10.0
) -> InForce:
    """What the loop has in force after a decision of this slot."""
    (call,) = decision.calls
    if in_force and (call.outlasts(slot_s) or decision.value == in_force.policy):
        return in_force
    return InForce(decision.value, slot)


THIRDS = policy([1 / 3] * 3, [1 / 3] * 3)
LEFT = policy([1, 0, 0], [0.5, 0.5, 0])
RIGHT = policy([0, 0, 1], [0, 0.6, 0.4])


def outcomes(
    slot: int,
    *,
    latency_s: float = 10.0,
    succeeded: Sequence[int] = (40, 40),
    failed: Sequence[int] = (0, 0),
    requests: Sequence[int] = (40, 40),
    prompts: Sequence[int] = (80, 80),
) -> Telemetry:
    """What became known in the epoch before ``slot``; by default objective = latency / 200 s."""
    return Telemetry(
        first_slot=max(0, slot - EPOCH),
        last_slot=slot - 1,
        arrived_requests=np.array(requests),
        arrived_prompts=np.array(prompts),
        succeeded=np.array(succeeded),
        failed=np.array(failed),
        latency_sum_s=np.array(succeeded) * latency_s,
    )


def before(slot: int, up: Sequence[bool] = (True, True, True)) -> ClusterState:
    """The state at the boundary where ``slot`` begins."""
    return idle(cluster(), slot=slot - 1, up=up)


def case(
    slot: int = EPOCH,
    made: MacroPolicy = THIRDS,
    *,
    up: Sequence[bool] = (True, True, True),
    **figures: float | Sequence[int],
) -> Case:
    """The case of the epoch before ``slot``."""
    given: Mapping[str, object] = figures
    seen = outcomes(slot, **given)  # type: ignore[arg-type]
    return make_case(cluster(), made, max(0, slot - EPOCH), before(slot, up), seen)

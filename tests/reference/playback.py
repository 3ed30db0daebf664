"""The twin under scripted commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import InForce, MacroPolicy, Orders, RoutingPlan, Stamp
from controller.domain.state import ClusterState
from controller.twin.cluster import Twin
from tests.reference.cases import Case


@dataclass(repr=False)  # asyncio.run spells out what it returns, to no end
class Played:
    """A run of the twin, slot by slot."""

    twin: Twin
    states: list[ClusterState] = field(default_factory=list)  # as each slot ended
    voided: list[NDArray[np.bool_]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # of pods, so far
    done: list[NDArray[np.int64]] = field(default_factory=list)  # prompts of each request, so far


def play(case: Case) -> Played:
    """Run the script, its last slot over and over, until every request is decided."""
    return asyncio.run(_play(case))


def orders(slot: int, plan: RoutingPlan) -> Orders:
    """Orders for a twin, which looks at nothing of a policy."""
    nothing = MacroPolicy(np.zeros((0, 0)), np.zeros((0, 0), np.bool_))
    return Orders(Stamp(slot), InForce(nothing, 0, plan, slot))


async def _play(case: Case) -> Played:
    twin = Twin(case.scenario, case.requests, case.outages)
    played = Played(twin)
    slot = 0
    while slot < twin.slots or not await twin.settled():
        commands = case.script[min(slot, len(case.script) - 1)]
        await twin.announce(orders(slot, commands.plan), commands.route_thought_s)
        thought_s = commands.deploy_thought_s
        played.voided.append(await twin.deploy(Stamp(slot), commands.deployment, thought_s))
        slot += 1
        await twin.sleep_until(slot * case.scenario.slot_s)
        played.states.append(await twin.observe())
        played.starts.append(twin.pod_starts)
        played.done.append(twin.records["done"].copy())
    return played

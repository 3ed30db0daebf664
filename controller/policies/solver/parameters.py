"""Parameters of SOLVER."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ALLOWED: Final = "allowed"
NEVER: Final = "never"
REFUSAL: Final = (ALLOWED, NEVER)


@dataclass(frozen=True, slots=True)
class SolverParameters:
    """Parameters of SOLVER that a campaign can change.

    ``refuse_above``: expected wait, as a share of tau, beyond which a request is refused; a stable
    queue hardly ever reaches it, and a wait of two requests is always accepted.
    ``refuse_saturated``: the same for an LM whose arrivals exceed the plan's capacity even without
    slack; a longer queue would not serve one request more. ``replan_above``: relative change of any
    LM's demand that triggers a new solution. ``first_load``: load of the first plan, made before
    any arrivals, as a share of the highest load with equal requests for all LMs. ``memory``: weight
    of the old estimate of prompts by origin from slot to slot. ``decision_s``: seconds charged for
    each scheduler decision, as measured by ``edgelm bench`` at 6 nodes and rounded up;
    ``planning_s`` likewise for the planner. ``refusal``: ``never`` sends what would be refused to
    the node with the earliest expected completion, as the paper's scheduler must name a node.
    """

    refuse_above: float = 0.22
    refuse_saturated: float = 0.075
    replan_above: float = 0.1
    first_load: float = 0.9
    memory: float = 0.9
    decision_s: float = 0.005
    planning_s: float = 2.0
    refusal: str = field(default=ALLOWED, metadata={"choices": REFUSAL, "later": True})

"""Parameters of SOLVER."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SolverParameters:
    """Parameters of SOLVER that a campaign can change.

    ``refuse_above``: expected waiting, as a share of tau, beyond which a request is refused; a
    stable queue hardly ever gets there, and two requests ahead never count as more.
    ``refuse_saturated``: the same for an LM of which more arrives than the plan can serve even
    without slack; a longer queue would not serve one request more. ``replan_above``: relative
    change of any LM's demand that is worth solving again. ``first_load``: share of the highest load
    with equal requests for all LMs that the first plan, which has seen nothing yet, is made for.
    ``memory``: what the estimate of prompts by origin keeps from slot to slot. ``decision_s``:
    charged for each scheduler decision, as measured by ``edgelm bench`` at 6 nodes and rounded up;
    ``planning_s`` likewise for the planner.
    """

    refuse_above: float = 0.22
    refuse_saturated: float = 0.075
    replan_above: float = 0.1
    first_load: float = 0.9
    memory: float = 0.9
    decision_s: float = 0.005
    planning_s: float = 2.0

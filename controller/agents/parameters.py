"""Parameters of the agents that a campaign can change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

OFF: Final = "off"
ADVISE: Final = "advise"
APPROVE: Final = "approve"
APPLY: Final = "apply"
MODES: Final = (OFF, ADVISE, APPROVE, APPLY)

ALLOWED: Final = "allowed"
NEVER: Final = "never"
REFUSAL: Final = (ALLOWED, NEVER)


@dataclass(frozen=True, slots=True)
class AgentParameters:
    """``mode``: ``apply`` what agents decide; ``approve``: a person confirms each macro-policy;
    ``advise``: the ``incumbent`` strategy decides, the agents' decisions are recorded beside its;
    ``off``: the incumbent alone. ``memory_tokens``: of past cases in a planner's prompt, 0 for
    none. ``margin``: a macro-policy whose epoch's objective is worse by more than this share than
    the last good one's is undone, 0 for never. ``what_if``: candidate policies that the planner
    may have rehearsed before it answers. ``refusal``: ``never`` sends what the scheduler refuses
    where the planned split has it, as the paper's scheduler must name a node.
    """

    mode: str = field(default=APPLY, metadata={"choices": MODES})
    incumbent: str = "SOLVER"
    memory_tokens: float = 1200.0
    margin: float = 0.25
    what_if: float = 0.0
    refusal: str = field(default=ALLOWED, metadata={"choices": REFUSAL, "later": True})

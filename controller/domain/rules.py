"""Rules that the paper leaves open and that decide results; the defaults are docs/twin.md's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Late = Literal["drop", "serve"]
Inactive = Literal["wait", "fail"]
Slices = Literal["share", "static"]
Origins = Literal["workers", "all"]
Blocks = Literal["stopping", "pending"]


@dataclass(frozen=True, slots=True)
class Rules:
    """One choice for each silence of the paper that the twin can play both ways.

    ``late``: a request past its deadline leaves its queue, or is served in its turn all the same
    and fails. ``inactive``: a request to a node whose deployment in force has its LM off waits, or
    fails at once (Eq. 3 by the letter). ``slices``: a pod alone on a GPU has all of it, or the
    share of its slices. ``origins``: the workers, or the control node too, which serves nothing.
    ``blocks``: terminating pods void changes of their node as pending ones do, or pending ones do
    alone.
    """

    late: Late = "drop"
    inactive: Inactive = "wait"
    slices: Slices = "share"
    origins: Origins = "workers"
    blocks: Blocks = "stopping"


USUAL: Final = Rules()

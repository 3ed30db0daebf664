"""Rules of the twin as a campaign names them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from pydantic import Field

from controller.domain.rules import Blocks, Inactive, Late, Origins, Rules, Slices
from controller.inputs.fields import Record

USUAL: Final = "usual"


class RuleSet(Record):
    """Named set of the rules that the paper leaves open: see docs/twin.md."""

    name: str = Field(USUAL, min_length=1)
    late: Late = "drop"
    inactive: Inactive = "wait"
    slices: Slices = "share"
    origins: Origins = "workers"
    blocks: Blocks = "stopping"

    @property
    def is_usual(self) -> bool:
        """True if every rule is the default."""
        return self.to_domain() == Rules()

    def to_domain(self) -> Rules:
        """Return the domain's rules."""
        return Rules(**{rule: getattr(self, rule) for rule in asdict(Rules())})

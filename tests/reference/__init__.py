"""An independent model of docs/twin.md, to hold the twin against."""

from tests.reference.model import Outcome, Slot, simulate

__all__ = ["Outcome", "Slot", "simulate"]

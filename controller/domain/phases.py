"""Phases of a run on a testbed, from the asking to the end."""

from __future__ import annotations

from typing import Final

WAITING: Final = "waiting"  # for services
RUNNING: Final = "running"
ENDING: Final = "ending"  # waiting for the journals of nodes, and the player's record
DONE: Final = "done"
CANCELLED: Final = "cancelled"
FAILED: Final = "failed"
OVER: Final = (DONE, CANCELLED, FAILED)

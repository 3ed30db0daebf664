"""Minutes that phases are expected to take, from the last time or an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Seconds of a phase: once, and for each machine. Estimated, but for provision: measured on a
# local OpenStack whose servers do not boot.
ESTIMATED_S: Final[Mapping[str, tuple[float, float]]] = {
    "provision": (60.0, 15.0),
    "reach": (60.0, 5.0),
    "validate": (20.0, 2.0),
    "hosts": (300.0, 30.0),
    "kubernetes": (120.0, 20.0),
    "services": (300.0, 20.0),
    "edgelm": (300.0, 30.0),
    "airflow": (180.0, 0.0),
    "check": (60.0, 5.0),
}


def minutes(machines: int, taken_s: Mapping[str, float]) -> dict[str, float]:
    """Return phase -> minutes. ``taken_s``: seconds of phases that have run before."""
    found = {}
    for phase, (once, each) in ESTIMATED_S.items():
        seconds = taken_s.get(phase, once + each * machines)
        found[phase] = round(seconds / 60, 1)
    return found

"""Estimate of the prompts born at each origin, from past arrivals and a forecast."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Demand

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MEMORY: Final = 0.9  # weight of the old estimate from slot to slot


def expect(before: Floats | None, arrived: Ints, forecast: Demand | None) -> Floats:
    """Return (N, I) prompts a slot by origin: a running mean of ``arrived`` (N, I). It begins with
    the forecast, spread evenly over the origins, or with one prompt each. Slots without arrivals do
    not count, since a run begins and ends with such slots."""
    if before is None:
        total = None if forecast is None else forecast.requests * forecast.prompts
        each = 1.0 if total is None else total / len(arrived)
        before = np.broadcast_to(each, arrived.shape)
    return MEMORY * before + (1 - MEMORY) * arrived if arrived.any() else before

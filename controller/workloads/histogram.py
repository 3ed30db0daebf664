"""ServeGen's token histograms: JSON of 6 h windows; each field is a text such as "{136: 0.25}"."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.workloads.table import decode

FIELDS: Final = ("text_tokens", "image_tokens", "image_count", "output_tokens")


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Values and their probabilities, which sum to 1."""

    values: NDArray[np.float64]
    shares: NDArray[np.float64]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return ``count`` independent draws."""
        return rng.choice(self.values, count, p=self.shares)

    @property
    def positive_share(self) -> float:
        """Probability of a value above 0."""
        return float(self.shares[self.values > 0].sum())


def read_histograms(content: bytes, source: str) -> dict[float, dict[str, Histogram]]:
    """Return the histograms by start of their window in seconds, ascending, and by field.

    Raises:
        InputError: not JSON of this format; names window and field.
    """
    try:
        data = json.loads(decode(content, source))
    except (ValueError, RecursionError) as error:
        raise InputError(source, f"is no JSON: {error}") from error
    if not isinstance(data, dict) or not data:
        raise InputError(source, "is no mapping of windows")
    windows = {}
    for start, fields in data.items():
        if not start.isdecimal() or not isinstance(fields, dict):
            raise InputError(source, "is no window", field=start, remedy="such as 21600: {...}")
        windows[float(start)] = {
            name: _histogram(fields.get(name), f"{start}.{name}", source) for name in FIELDS
        }
    return dict(sorted(windows.items()))


def _histogram(text: Any, field: str, source: str) -> Histogram:
    if not isinstance(text, str):
        raise InputError(source, "is no histogram", field=field, remedy='such as "{136: 1.0}"')
    try:
        bins = json.loads(re.sub(r"(\d+)\s*:", r'"\1":', text))
        values = np.array([float(value) for value in bins])
        shares = np.array([float(share) for share in bins.values()])
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(source, f"is no histogram: {error}", field=field) from error
    total = float(shares.sum()) if len(shares) else 0.0
    if not 0 < total < math.inf or not np.all(shares >= 0):
        raise InputError(
            source, "shares must be 0 or more and sum to a positive number", field=field
        )
    return Histogram(values, shares / total)

"""Prices of tokens. A model without a price costs "unknown", never nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# gpt-4.1-mini-2025-04-14 is a version of gpt-4.1-mini.
_DATED = re.compile(r"(?P<model>.+)-(?:\d{4}-\d{2}-\d{2}|\d{8})")


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input_usd: float
    cached_input_usd: float
    output_usd: float

    def cost_usd(self, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
        """Return the price in USD. ``tokens_cached`` is the part of ``tokens_in`` that the server
        had read before."""
        cached = min(tokens_cached, tokens_in)
        return (
            (tokens_in - cached) * self.input_usd
            + cached * self.cached_input_usd
            + tokens_out * self.output_usd
        ) / 1e6

    @property
    def free(self) -> bool:
        return not (self.input_usd or self.cached_input_usd or self.output_usd)


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model."""

    models: Mapping[str, Price]

    def of(self, *names: str) -> Price | None:
        """Return the first price there is: of a name, or of the model it is a dated version of."""
        for name in names:
            if price := self.models.get(name):
                return price
            dated = _DATED.fullmatch(name)
            if dated and (price := self.models.get(dated["model"])):
                return price
        return None

"""Random numbers of a run: every part of a strategy, on every node, draws from its own stream.

So a part draws the same numbers alone on its node and beside all others in one process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STRATEGY = 1  # the seed's stream for strategies; the world's are in bootstrap


@dataclass(frozen=True, slots=True)
class Streams:
    """Random generators of a strategy, by part and node."""

    seed: int

    def of(self, part: str, node: str = "") -> np.random.Generator:
        """Return the generator of a part, such as ``scheduler``, on one node or on none ("")."""
        name = f"{part}@{node}".encode()
        return np.random.default_rng(np.random.SeedSequence([self.seed, STRATEGY, *name]))

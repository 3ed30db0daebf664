"""Requests as columns: R rows sorted by birth, one row a batch of prompts of one LM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Arrivals of a run, every array of shape (R,). The row index is the request's id."""

    lm: Ints  # column of the testbed's LMs
    origin: Ints  # row of the testbed's nodes
    prompts: Ints  # K_q >= 1
    slot: Ints
    born_s: Floats  # ascending, within [slot * slot_s, (slot + 1) * slot_s)
    work: Floats  # service time of a prompt over the LM's reference prompt
    uplink_bytes: Floats  # of the whole batch
    downlink_bytes: Floats

    def __len__(self) -> int:
        return len(self.lm)

    def born_in(self, slot: int, nodes: int, lms: int) -> Ints:
        """(nodes, lms) prompts born in a slot, by origin and LM."""
        rows = slice(*np.searchsorted(self.slot, (slot, slot + 1)))
        prompts = np.zeros((nodes, lms), np.int64)
        np.add.at(prompts, (self.origin[rows], self.lm[rows]), self.prompts[rows])
        return prompts

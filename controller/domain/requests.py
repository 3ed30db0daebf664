"""Requests as columns: R rows sorted by birth, one row a batch of prompts of one LM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Reasons of failure; 0 while a request is alive or has succeeded.
FAILURES: Final = (
    "",
    "deadline",
    "not_deployed",
    "refused",
    "lost_node",
    "unfinished",
    "engine_error",
    "cancelled",
)
DEADLINE: Final = 1
NOT_DEPLOYED: Final = 2
REFUSED: Final = 3
LOST_NODE: Final = 4
UNFINISHED: Final = 5
ENGINE_ERROR: Final = 6
CANCELLED: Final = 7

NOWHERE: Final = -1


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
    # Size of a prompt, by the columns of domain/profile.py's Prompt; empty where nobody needs it.
    sizes: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lm)

    def born_in(self, slot: int, nodes: int, lms: int) -> Ints:
        """Return (nodes, lms) prompts born in a slot, by origin and LM."""
        rows = slice(*np.searchsorted(self.slot, (slot, slot + 1)))
        prompts = np.zeros((nodes, lms), np.int64)
        np.add.at(prompts, (self.origin[rows], self.lm[rows]), self.prompts[rows])
        return prompts


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """Columns of requests.parquet as arrays of shape (R,): codes instead of names, NaN for a time
    never reached, NOWHERE for a request without destination."""

    lm: Ints
    origin: Ints
    destination: Ints
    prompts: Ints
    slot: Ints
    born_s: Floats
    arrived_s: Floats
    started_s: Floats
    finished_s: Floats
    returned_s: Floats
    uplink_s: Floats
    queue_s: Floats
    inference_s: Floats
    downlink_s: Floats
    latency_s: Floats
    failure: Ints  # index into FAILURES, 0 where it succeeded
    attempts: Ints  # dispatches to a node
    recomputed_prompts: Ints  # prompts whose batch was lost and served again

    @property
    def success(self) -> Bools:
        success: Bools = self.failure == 0
        return success

    def __len__(self) -> int:
        return len(self.lm)

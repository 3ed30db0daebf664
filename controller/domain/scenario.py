"""The static context of a run, C of section IV-A, known to every decider beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.profile import Profile
from controller.domain.rules import USUAL, Rules
from controller.domain.state import CPU, GPU
from controller.domain.testbed import Testbed

# The paper's constants (section V-A): the defaults of every file, command and function.
SLOT_S: Final = 30.0
EPOCH_SLOTS: Final = 50
TAU_S: Final = 900.0
LAM: Final = 0.5


@dataclass(frozen=True, slots=True)
class Scenario:
    """Testbed, profile and the constants of the problem."""

    testbed: Testbed
    profile: Profile
    slot_s: float = SLOT_S
    epoch_slots: int = EPOCH_SLOTS
    tau_s: float = TAU_S  # deadline, Eq. 3
    lam: float = LAM  # lambda of Eq. 10
    rules: Rules = USUAL

    def hosts(self) -> NDArray[np.bool_]:
        """Return (N, I) True where node n can run LM i, by device kind, memory and profile."""
        can = [
            [self._fits(n, i) for i in range(len(self.testbed.lms))]
            for n in range(len(self.testbed.nodes))
        ]
        return np.array(can, dtype=np.bool_)

    def _fits(self, n: int, i: int) -> bool:
        return self.on_cpu(n, i) or self.on_gpu(n, i)

    def on_cpu(self, n: int, i: int) -> bool:
        """Return True if node n can run LM i on its cores."""
        node, lm = self.testbed.nodes[n], self.testbed.lms[i]
        profile = self.profile.lms[lm.name]
        return not lm.gpu_only and node.cpu in profile.cpu and lm.ram_gb <= node.ram_gb

    def on_gpu(self, n: int, i: int) -> bool:
        """Return True if node n can run LM i on a GPU."""
        node, lm = self.testbed.nodes[n], self.testbed.lms[i]
        profile = self.profile.lms[lm.name]
        return (
            node.vgpus > 0
            and node.gpu in profile.gpu
            and lm.ram_gb <= node.ram_gb
            and lm.vram_gb <= node.vram_gb
            and lm.cores_on_gpu <= node.cores
        )

    def prompt_seconds(
        self, n: int, mode: NDArray[np.int64], cores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return (I,) seconds per reference prompt on node n, undisturbed, in the given modes (I,)
        with ``cores`` (I,) or on one GPU; inf where off."""
        node, seconds = self.testbed.nodes[n], np.full(len(mode), np.inf)
        for i, lm in enumerate(self.testbed.lms):
            profile = self.profile.lms[lm.name]
            if mode[i] == CPU:
                seconds[i] = profile.cpu[node.cpu].at(float(cores[i]))
            elif mode[i] == GPU:
                seconds[i] = profile.gpu[node.gpu].at(1.0)
        return seconds

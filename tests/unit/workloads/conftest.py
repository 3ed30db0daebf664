from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.domain.profile import Batching, Curve, LmProfile, Profile, Prompt, Size
from controller.domain.scenario import Scenario
from controller.domain.testbed import Lm, Network, Node, Testbed

CPU, GPU = "some CPU", "some GPU"
NAMES = ("LM1", "LM2", "LM3", "LM4")


@pytest.fixture(scope="session")
def traces() -> Path:
    return Path(__file__).parents[2] / "data" / "traces"


@pytest.fixture(scope="session")
def make_scenario() -> Callable[..., Scenario]:
    return build


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return build()


def build(nodes: int = 6, lms: tuple[str, ...] = NAMES, slot_s: float = 30.0) -> Scenario:
    """LM k has a reference prompt of (10 k, 20 k) tokens and work 1/2 + output share 1/2."""
    testbed = Testbed(
        "small",
        tuple(Node(f"n{n}", "here", CPU, 16, 24, 1, GPU, 24, 2) for n in range(nodes)),
        tuple(Lm(name, name, name, "text-to-text", 1, 1) for name in lms),
        Network(100, 1e-4, 100, 1e-3),
    )
    profiles = {
        name: LmProfile(
            reference=Prompt(10.0 * k, 20.0 * k, 0.5, 0.25),
            work_model=Size(fixed=10.0 * k, per_output_token=0.5),
            cpu={CPU: Curve((1.0,), (1.0,))},
            gpu={GPU: Curve((1.0,), (0.1,))},
            cpu_batching=Batching(),
            gpu_batching=Batching(),
            start_cpu_s=1,
            start_gpu_s=1,
            stop_s=1,
            resident_ram_gb=1,
            resident_vram_gb=1,
            uplink_bytes=Size(fixed=100, per_input_token=4, per_input_megapixel=1e6),
            downlink_bytes=Size(fixed=50, per_output_token=4, per_output_megapixel=2e6),
        )
        for k, name in enumerate(lms, start=1)
    }
    return Scenario(testbed, Profile("small", profiles, 0.05), slot_s=slot_s)

"""Emulated engines: the times of a profile as the file that lm_server reads (docs/lm-server.md)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controller.domain.scenario import Scenario
from controller.domain.state import GPU
from controller.testbed.node.pods import Start


def emulated_times(
    scenario: Scenario, row: int, start: Start, gpu_files: list[Path], speed: float
) -> dict[str, Any]:
    """Return the times of a pod of the node ``row``, by the rules of docs/twin.md."""
    node, lm = scenario.testbed.nodes[row], scenario.testbed.lms[start.lm]
    profile = scenario.profile.lms[lm.name]
    on_gpu = start.mode == GPU
    seconds = (
        profile.gpu[node.gpu].at(len(start.gpus))
        if on_gpu
        else profile.cpu[node.cpu].at(start.cores)
    )
    work = asdict(profile.work_model)
    return {
        "seconds": seconds,
        "batch_factors": list((profile.gpu_batching if on_gpu else profile.cpu_batching).factors),
        "work": {
            "fixed": work["fixed"],
            **{name.removeprefix("per_"): work[name] for name in work if name != "fixed"},
            "reference": asdict(profile.reference),
        },
        "start_s": profile.start_gpu_s if on_gpu else profile.start_cpu_s,
        "stop_s": profile.stop_s,
        "time_scale": speed,
        "output": "image" if lm.modality.endswith("to-image") else "text",
        "created_unix_s": time.time(),
        "gpus": [str(gpu_files[gpu]) for gpu in start.gpus],
        "switch_loss": scenario.profile.switch_loss,
    }


class EmulatedEngines:
    """Arguments of lm_server for emulated pods of one node.

    Args:
        folder: where the node's emulated GPUs are.
        speed: emulated seconds per real one.
    """

    def __init__(self, scenario: Scenario, row: int, folder: Path, speed: float) -> None:
        self._scenario, self._row, self._speed = scenario, row, speed
        folder.mkdir(parents=True, exist_ok=True)
        gpus = scenario.testbed.nodes[row].gpus
        self._gpu_files = [folder / f"gpu-{gpu}" for gpu in range(gpus)]

    def __call__(self, start: Start, folder: Path) -> list[str]:
        """Write the pod's times into its folder; return the arguments."""
        times = emulated_times(self._scenario, self._row, start, self._gpu_files, self._speed)
        path = folder / "times.json"
        path.write_text(json.dumps(times))
        return ["--engine", "emulated", "--model", str(path), "--floor-gb", "0.2"]

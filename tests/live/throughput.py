"""Added latency and highest rate of node services, with engines that take no time.

python -m tests.live.throughput --nodes 1 --rates 20,50,100 --seconds 30

Requests have one prompt, are born evenly at all nodes and travel to any node.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from controller.bootstrap.serve import local_testbed
from controller.campaigns.experiment import Experiment
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.testbed import TestbedFile
from controller.workloads.spec import WorkloadFile
from tests.live.services import live_experiment, make_run, processes

SLOT_S = 5.0


def last_nodes(nodes: int) -> TestbedFile:
    """The paper's testbed with its last nodes only: those with GPUs, which run every LM."""
    document: dict[str, Any] = load_testbed("paper").model_dump(by_alias=True)
    hosts = document["all"]["children"]["workers"]["hosts"]
    for name in list(hosts)[: len(hosts) - nodes]:
        del hosts[name]
    return TestbedFile.model_validate(document)


def experiment(nodes: int, rate: float, slots: int, seed: int) -> Experiment:
    testbed = last_nodes(nodes)
    lms = len(testbed.to_domain().lms)
    workload = {
        "name": "even", "summary": "A test's.",
        "process": {
            "kind": "poisson", "max_prompts": 1,
            "requests_per_slot": rate * SLOT_S / nodes / lms,
        },
    }  # fmt: skip
    profile = load_profile("a5000").scaled({"start": 0.01})
    for _ in range(2):  # by no more than a thousand at once
        profile = profile.scaled({"cpu_service": 1e-3, "gpu_service": 1e-3})
    return live_experiment(
        testbed=testbed, profile=profile, workload=WorkloadFile.model_validate(workload),
        slot_s=SLOT_S, epoch_slots=slots, tau_s=30.0, seed=seed,
    )  # fmt: skip


def memory_mb(pids: Iterable[int]) -> float:
    """Largest resident memory of these processes."""
    sizes = [
        int(line.split()[1]) / 1024
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return max(sizes, default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--rates", default="20,50,100", help="requests a second, all nodes")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    names = last_nodes(options.nodes).to_domain().node_names
    slots = max(1, round(options.seconds / SLOT_S))
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=place) as folder:
        root = Path(folder)
        with local_testbed(names, root, 1.0) as testbed:
            for k, rate in enumerate(map(float, options.rates.split(","))):
                one = experiment(options.nodes, rate, slots, k)
                began_s = time.monotonic()
                files = make_run(one, root, testbed)
                took_s = time.monotonic() - began_s
                table = pl.read_parquet(io.BytesIO(files["requests.parquet"]))
                # The first slot's requests wait for pods.
                steady = table.filter(pl.col("slot") > 1)
                done = steady.filter("success")
                # Latency over the engine's, which is next to nothing.
                added_s = done["latency_s"] - done["inference_s"]
                player = json.loads(files["summary.json"])["player"]
                p50, p99 = (added_s.quantile(q) or 0.0 for q in (0.5, 0.99))
                print(  # noqa: T201
                    f"{options.nodes} nodes, {rate:g} requests/s: {len(table)} requests, "
                    f"{len(done) / max(1, len(steady)):.1%} succeed, added latency median "
                    f"{p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, player's slip p99 "
                    f"{(player['slip_p99_s'] or 0) * 1e3:.1f} ms, node "
                    f"{memory_mb(processes(root, ['node'])):.0f} MB, {took_s:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

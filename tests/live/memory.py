"""Memory of one node service and of the controller while they carry many requests.

python -m tests.live.memory --requests 20000 --rate 60

Resident memory is read every 2,000 closed requests, and the slope after the first 4,000 printed:
what a service keeps of each request shows there, whatever its start took.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from controller.bootstrap.condition import read_state
from controller.bootstrap.serve import local_testbed
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER
from tests.live.services import make_run, processes
from tests.live.throughput import SLOT_S, experiment, last_nodes, memory_mb

EVERY = 2_000
WARM = 4_000
SERVICES = ("node", "controller")


@dataclass
class Growth:
    """Memory in MB of each service by the number of requests that were closed."""

    succeeded: float = 0.0  # share of the requests
    closed: list[int] = field(default_factory=list)
    mb: dict[str, list[float]] = field(default_factory=lambda: {one: [] for one in SERVICES})

    def kb_per_thousand(self, service: str) -> float:
        """Return the slope after the warm-up, by least squares."""
        warm = np.array(self.closed) >= WARM
        slope, _ = np.polyfit(np.array(self.closed)[warm], np.array(self.mb[service])[warm], 1)
        return float(slope) * 1024 * 1000

    def lines(self) -> Iterator[str]:
        for k, count in enumerate(self.closed):
            sizes = ", ".join(f"{one} {self.mb[one][k]:.1f} MB" for one in SERVICES)
            yield f"{count} requests: {sizes}"
        yield f"{self.succeeded:.1%} succeed"
        for one in SERVICES:
            yield f"{one}: {self.kb_per_thousand(one):.0f} KB per 1,000 requests after {WARM}"


def measure(requests: int, rate: float) -> Growth:
    """Carry ``requests`` through one node service and read its memory meanwhile."""
    one = experiment(1, rate, round(requests / rate / SLOT_S), seed=0)
    names = last_nodes(1).to_domain().node_names
    growth, due = Growth(), EVERY
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=place) as folder, ThreadPoolExecutor(1) as pool:
        root = Path(folder)
        with local_testbed(names, root, 1.0) as testbed:
            shown = headers(testbed.keys(), CONTROLLER)
            run = pool.submit(make_run, one, root, testbed)
            while not run.done():
                time.sleep(0.5)
                try:
                    found = read_state(testbed.url, shown)["run"]
                except OSError:  # a busy machine's controller may be slow to answer
                    continue
                if found is not None and found["records"] >= due:
                    growth.closed.append(found["records"])
                    for service in SERVICES:
                        growth.mb[service].append(memory_mb(processes(root, [service])))
                    due = found["records"] // EVERY * EVERY + EVERY
            growth.succeeded = json.loads(run.result()["summary.json"])["success_rate"]
    return growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    options = parser.parse_args()
    for line in measure(options.requests, options.rate).lines():
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

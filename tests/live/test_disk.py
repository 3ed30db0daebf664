"""A run while the disk of one node is full for a while."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.bootstrap.condition import read_state
from controller.bootstrap.serve import local_testbed
from controller.testbed.handshake import headers
from controller.testbed.keys import read_keys
from tests.live.services import SPEED, live_experiment, make_run, results_taken
from tests.live.test_local import requests_of
from tests.waiting import waits

NODE = "vm3"
SIZE_MB = 400  # the floor is at 268


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of services, in which one node has a small disk."""
    place = tmp_path / NODE
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs root, who may mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path, but_mb: int) -> None:
    """Fill a disk up to ``but_mb`` megabytes."""
    free_mb = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize >> 20
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(free_mb - but_mb + (but_mb == 0)):
            file.write(bytes(1 << 20))


@waits
def test_a_full_disk_delays_and_loses_nothing(folder: Path) -> None:
    one = live_experiment(seed=6)
    filler = folder / NODE / "filler"
    nodes = one.testbed.to_domain().node_names
    with local_testbed(nodes, folder, SPEED) as testbed, ThreadPoolExecutor(1) as pool:
        run = pool.submit(make_run, one, folder, testbed)
        time.sleep(5)
        urls = read_state(testbed.url, headers(testbed.keys(), "controller"))["nodes"]
        fill(filler, 100)  # below the floor: nothing new is taken
        shown = headers(read_keys(Path(testbed.keys_file)), NODE)
        assert read_state(urls[NODE], shown)["free_gb"] < 0.3
        time.sleep(2)
        fill(filler, 0)  # what has been taken cannot be kept either
        time.sleep(3)
        filler.unlink()
        table = requests_of(run.result(300))
    taken = results_taken(folder, one.run_id)
    assert not (table["failure"] == "unfinished").any(), "lost"
    assert max(taken.values()) == 1, "returned twice"
    assert sum(map(bool, taken.values())) == table["success"].sum()
    assert table["success"].mean() > 0.5

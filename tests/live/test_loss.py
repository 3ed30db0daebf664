"""A run while the network loses a fifth of all packets, in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import waits

NFT = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LOST_PERCENT = 20
RULES = f"""
ip link set lo up
{NFT} add table inet lossy
{NFT} add chain inet lossy out '{{ type filter hook output priority 0; }}'
{NFT} add rule inet lossy out meta l4proto tcp numgen random mod 100 '<' {LOST_PERCENT} counter drop
"""
PROGRAM = """
import io, json, sys
from pathlib import Path
import polars as pl
from controller.bootstrap.serve import local_testbed
from tests.live.services import live_experiment, make_run, results_taken

folder = Path(sys.argv[1])
one = live_experiment(seed=5, load=0.5)
with local_testbed(one.testbed.to_domain().node_names, folder, 5.0) as testbed:
    files = make_run(one, folder, testbed)
table = pl.read_parquet(io.BytesIO(files["requests.parquet"]))
taken = results_taken(folder, one.run_id)
print(json.dumps({
    "requests": len(table),
    "unfinished": int((table["failure"] == "unfinished").fill_null(False).sum()),
    "succeeded": int(table["success"].sum()),
    "returned_most": max(taken.values()),
    "returned": sum(map(bool, taken.values())),
    "uplink_p50_s": table["uplink_s"].median(),
}))
"""


@waits
@pytest.mark.skipif(os.geteuid() != 0 or NFT is None, reason="needs root and nft (nftables)")
def test_lost_packets_delay_and_lose_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    script = f"set -e{RULES}exec {sys.executable} {program} {tmp_path / 'services'}"
    probe = subprocess.run(["unshare", "-n", "true"], check=False)
    if probe.returncode:
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["unfinished"] == 0, "lost"
    assert found["returned_most"] == 1, "returned twice"
    assert found["returned"] == found["succeeded"]
    assert found["succeeded"] > 0.8 * found["requests"]
    print(f"{LOST_PERCENT} % of packets lost: {found}")  # noqa: T201

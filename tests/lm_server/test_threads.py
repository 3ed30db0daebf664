"""Threads follow the CPU quota of the process's cgroup, not the cores of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lm_server.threads import engine_threads

from tests.lm_server.cgroups import tree
from tests.lm_server.servers import Server, serving, wait_for


@pytest.mark.parametrize(
    ("cpu_max", "threads"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
        ("nonsense", 8),
    ],
)
def test_version_2_is_floored_and_bounded_by_the_cores(
    tmp_path: Path, cpu_max: str, threads: int
) -> None:
    root = tree(tmp_path, "0::/pod/app", {"sys/fs/cgroup/pod/app/cpu.max": cpu_max})
    assert engine_threads(root, cores=8) == threads


def test_a_parents_tighter_quota_wins(tmp_path: Path) -> None:
    limits = {
        "sys/fs/cgroup/pod/app/cpu.max": "400000 100000",
        "sys/fs/cgroup/pod/cpu.max": "300000 100000",
    }
    assert engine_threads(tree(tmp_path, "0::/pod/app", limits), cores=8) == 3


@pytest.mark.parametrize(("quota", "threads"), [("-1", 8), ("100000", 1), ("350000", 3)])
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1(tmp_path: Path, mount: str, quota: str, threads: int) -> None:
    group = f"sys/fs/cgroup/{mount}/pod"
    files = {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": "100000"}
    root = tree(tmp_path, f"3:memory:/x\n1:{mount}:/pod\n0::/", files)
    assert engine_threads(root, cores=8) == threads


def test_without_a_cgroup_the_cores_count(tmp_path: Path) -> None:
    assert engine_threads(tmp_path, cores=4) == 4


def test_this_machines_own_tree_is_read() -> None:
    assert 1 <= engine_threads() <= len(os.sched_getaffinity(0))


@pytest.fixture
def real_group() -> Iterator[Path]:
    group = Path("/sys/fs/cgroup/cpu") / f"edgelm-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError:
        pytest.skip("needs root and cgroup v1: sudo make test")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def threads_of_a_batch(server: Server, name: str) -> float:
    server.submit(name, prompts=1)
    server.wait_for_end(name)
    return server.metric("edgelm_engine_threads")


def test_a_resize_of_a_real_cgroup_is_felt_without_a_restart(
    tmp_path: Path, real_group: Path
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores: taskset -c 0,1 make test")
    with serving(tmp_path, seconds=0.01) as server:
        (real_group / "cgroup.procs").write_text(str(server.worker()))
        assert threads_of_a_batch(server, "before") == 1
        (real_group / "cpu.cfs_quota_us").write_text("200000")
        assert threads_of_a_batch(server, "after") == 2
        assert server.metric("edgelm_worker_restarts_total") == 0

"""Number of threads that the cgroup's CPU quota allows. Libraries count the machine's cores, and a
pod with fewer is throttled for most of the time."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def allowed_threads(root: Path = CGROUP) -> int:
    """Return the floor of the CPU quota in cores, at least 1; without a quota, the cores that this
    process may use. Cheap enough to be called before each batch: a pod is resized in place."""
    quota = _quota(root)
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(quota))) if quota is not None else cores


def _quota(root: Path) -> float | None:
    """Return the quota in cores by cgroup v2, else v1; None without one that can be read."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return float(limit) / float(period) if float(limit) > 0 else None
    except (ValueError, ZeroDivisionError):  # cgroup v2 writes "max" for no limit
        return None

"""Number of threads an engine may use: what the cgroup's CPU quota allows, not the host's cores."""

from __future__ import annotations

import math
import os
from pathlib import Path

from lm_server.cgroup import groups, read


def engine_threads(root: Path = Path("/"), cores: int | None = None) -> int:
    """Return the floor of the tightest CPU quota on this process, between 1 and the cores.

    Reads `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` (v1) of the process's group and of all its
    parents. Read it again before each batch: an in-place resize changes them under a live process.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0))
    quotas = [quota for folder in groups("cpu", root) if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *(math.floor(quota) for quota in quotas)]))


def _quota(folder: Path) -> float | None:
    """Return the CPUs a group may use, or None where it has no limit."""
    words = read(folder / "cpu.max").split()
    if not words:
        words = [read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None

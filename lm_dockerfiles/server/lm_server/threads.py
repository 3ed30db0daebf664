"""Number of threads an engine may use: what the cgroup's CPU quota allows, not the host's cores."""

from __future__ import annotations

import math
import os
from pathlib import Path


def engine_threads(root: Path = Path("/"), cores: int | None = None) -> int:
    """Return the floor of the tightest CPU quota on this process, between 1 and the cores.

    Reads `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` (v1) of the process's group and of all its
    parents. Read it again before each batch: an in-place resize changes them under a live process.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _folders(root) if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *(math.floor(quota) for quota in quotas)]))


def _folders(root: Path) -> list[Path]:
    """Return the process's CPU group and its parents, for each hierarchy that is mounted."""
    top = root / "sys/fs/cgroup"
    folders = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mounts = [top, top / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [top / controllers, top / "cpu"]
        else:
            continue
        for mount in mounts:
            own = mount / path.strip("/")
            folders += [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]
    return folders


def _quota(folder: Path) -> float | None:
    """Return the CPUs a group may use, or None where it has no limit."""
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""

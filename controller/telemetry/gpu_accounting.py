"""Time and memory of each pod on time-sliced GPUs.

DCGM's exporter tells what a GPU does, not which of its slices: under time-slicing every pod on it
gets the same figures. The driver knows processes; a process's cgroup names its pod. Ids of
processes are the host's and go no further than this module.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

# In a cgroup's path, whatever the driver (cgroupfs, systemd) and the runtime (containerd, CRI-O):
# .../pod<uid>/..., .../kubepods-burstable-pod<uid with underscores>.slice/...
_POD: Final = re.compile(
    r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?/"
)
PERCENT: Final = 100.0


@dataclass(frozen=True, slots=True)
class Utilisation:
    """The driver's sample of a process on a GPU: percent of the time in which its kernels ran."""

    pid: int
    time_us: int
    busy_percent: float


class Driver(Protocol):
    """The part of NVML that is needed. GPUs are named by UUID."""

    def gpus(self) -> list[str]: ...

    def utilisation(self, gpu: str, since_us: int) -> list[Utilisation]:
        """Return samples newer than ``since_us``, none while nothing runs (NVML: NOT_FOUND)."""

    def memory(self, gpu: str) -> dict[int, int | None]:
        """Return the bytes that each process holds, None where the driver does not say."""


@dataclass(frozen=True, slots=True)
class PodOnGpu:
    """Time and memory of one pod on one GPU since the reading before."""

    gpu: str
    pod: str  # its UID
    busy_ratio: float
    memory_bytes: int | None  # None: the driver does not say


@dataclass(frozen=True, slots=True)
class Reading:
    """All pods on all GPUs. ``unattributed``: busy ratio by GPU of processes that belong to no pod,
    or were gone before anybody could ask."""

    pods: tuple[PodOnGpu, ...]
    unattributed: Mapping[str, float]
    last_seen_us: Mapping[str, int]  # by GPU: the driver's newest sample


class GpuAccounting:
    """Readings of one machine, one after the other.

    Args:
        pod_of: the pod of a process, None if it has none or is gone.
    """

    def __init__(self, driver: Driver, pod_of: Callable[[int], str | None]) -> None:
        self._driver, self._pod_of = driver, pod_of
        self._last_seen_us: dict[str, int] = {}
        self._known: dict[int, str] = {}  # pods of the processes of the reading before

    def read(self) -> Reading:
        """Return what happened since the last reading."""
        busy: defaultdict[tuple[str, str], float] = defaultdict(float)
        memory: dict[tuple[str, str], int | None] = {}
        lost: defaultdict[str, float] = defaultdict(float)
        known: dict[int, str] = {}
        for gpu in self._driver.gpus():
            held = self._driver.memory(gpu)
            shares = self._shares(gpu)
            for pid in {*held, *shares}:
                # One that ended since the driver saw it has left its time, and no cgroup to ask.
                pod = self._pod_of(pid) or self._known.get(pid)
                if pod is None:
                    lost[gpu] += shares.get(pid, 0.0)
                    continue
                known[pid] = pod
                busy[gpu, pod] += shares.get(pid, 0.0)
                if pid in held:
                    memory[gpu, pod] = _sum(memory.get((gpu, pod), 0), held[pid])
        self._known = known
        pods = tuple(
            PodOnGpu(gpu, pod, min(1.0, share), memory.get((gpu, pod), 0))
            for (gpu, pod), share in sorted(busy.items())
        )
        return Reading(pods, dict(lost), dict(self._last_seen_us))

    def _shares(self, gpu: str) -> dict[int, float]:
        """Return the busy share of each process: the mean of its samples since the last reading."""
        since_us = self._last_seen_us.get(gpu, 0)
        samples = self._driver.utilisation(gpu, since_us)
        # Drivers repeat old samples; a clock that was set back must not stop the accounting.
        fresh = [one for one in samples if one.time_us > since_us]
        if fresh:
            self._last_seen_us[gpu] = max(one.time_us for one in fresh)
        by_process: defaultdict[int, list[float]] = defaultdict(list)
        for one in fresh:
            by_process[one.pid].append(one.busy_percent / PERCENT)
        return {pid: sum(shares) / len(shares) for pid, shares in by_process.items()}


def pod_of_cgroup(text: str) -> str | None:
    """Return the UID of the pod in the text of /proc/PID/cgroup (v1 and v2), None without one."""
    for line in text.splitlines():
        found = _POD.search(f"{line}/")
        if found:
            return found.group(1).replace("_", "-")
    return None


def pod_of_process(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return the UID of a process's pod, None if it has none or is gone."""
    try:
        return pod_of_cgroup((proc / str(pid) / "cgroup").read_text())
    except (OSError, UnicodeDecodeError):
        return None


class Nvml:
    """The driver through nvidia-ml-py, of the extra `testbed`. It has met no GPU yet."""

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()

    def gpus(self) -> list[str]:
        nvml = self._nvml
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        return [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]

    def utilisation(self, gpu: str, since_us: int) -> list[Utilisation]:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu)
        try:
            samples: Iterable[object] = nvml.nvmlDeviceGetProcessUtilization(handle, since_us)
        except nvml.NVMLError_NotFound:  # nothing ran since then
            return []
        return read_samples(samples)

    def memory(self, gpu: str) -> dict[int, int | None]:
        handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu)
        return read_memory(self._nvml.nvmlDeviceGetComputeRunningProcesses(handle))


def read_samples(samples: Iterable[object]) -> list[Utilisation]:
    """Return NVML's nvmlProcessUtilizationSample_t structs; those of process 0 are padding."""
    return [
        Utilisation(int(one.pid), int(one.timeStamp), float(one.smUtil))  # type: ignore[attr-defined]
        for one in samples
        if one.pid  # type: ignore[attr-defined]
    ]


def read_memory(processes: Iterable[object]) -> dict[int, int | None]:
    """Return the memory in NVML's nvmlProcessInfo_t structs; None where it is not available."""
    return {
        int(one.pid): None if one.usedGpuMemory is None else int(one.usedGpuMemory)  # type: ignore[attr-defined]
        for one in processes
    }


def _sum(one: int | None, other: int | None) -> int | None:
    """Return the sum; unknown if one is unknown."""
    return None if one is None or other is None else one + other


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

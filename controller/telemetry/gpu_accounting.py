"""Use of each GPU by pod under time slicing, where DCGM can only tell the GPU's.

NVML gives the use of processes, ``/proc/PID/cgroup`` their pod. Process numbers are the host's, so
this runs where the host's processes are seen (``hostPID``), and they leave this module nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from controller.domain.errors import Permanent, Transient
from controller.telemetry import names
from controller.telemetry.exposition import Exposition

OTHER: Final = ""  # in place of a pod's uid: processes of the host, or gone before they were placed

# kubepods[/QOS]/podUID of the cgroupfs driver; kubepods[-QOS]-podUID.slice of systemd's, where the
# uid's dashes are underlines. The uid of a static pod is a hash without dashes.
_POD: Final = re.compile(
    r"kubepods[^:]*[/-]pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})"
    r"(?:\.slice)?(?:[/:]|$)"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Share of a GPU's time in which one process's kernels ran."""

    pid: int
    time_us: int  # Unix time at which the driver took the sample
    busy_percent: int


@dataclass(frozen=True, slots=True)
class Holding:
    """Memory of a GPU that one process holds; None where the driver does not say."""

    pid: int
    bytes: int | None


class Driver(Protocol):
    """NVML as far as accounting needs it.

    Raises:
        Transient: a GPU does not answer.
        Permanent: there is no driver, or it cannot be read.
    """

    def gpus(self) -> list[str]:
        """Return the UUIDs of the machine's GPUs."""

    def samples(self, gpu: str, since_us: int) -> list[Sample]:
        """Return samples later than ``since_us``; none if no process ran."""

    def holdings(self, gpu: str) -> list[Holding]:
        """Return the processes that hold memory of a GPU."""


@dataclass(frozen=True, slots=True)
class PodUse:
    """Use of one GPU by one pod, given by its uid, or with an empty ``pod`` by what is in none."""

    gpu: str
    pod: str
    busy: float  # share of the GPU's time, 0 to 1
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """Use of all GPUs in their newest samples. ``last_seen_s`` is the Unix time of the newest
    sample of each GPU that ever had one."""

    uses: tuple[PodUse, ...]
    last_seen_s: Mapping[str, float]


def measure(account: Account, measured: Exposition) -> None:
    """Set the metrics of an account; those of what is in it no more disappear."""
    uses = [({"gpu": one.gpu, "pod": one.pod}, one) for one in account.uses]
    measured.set_all(names.POD_GPU_BUSY, [(labels, one.busy) for labels, one in uses])
    measured.set_all(
        names.POD_GPU_MEMORY,
        [(labels, one.memory_bytes) for labels, one in uses if one.memory_bytes is not None],
    )
    measured.set_all(
        names.GPU_LAST_SEEN, [({"gpu": gpu}, at_s) for gpu, at_s in account.last_seen_s.items()]
    )


class GpuAccounting:
    """Accounts of the GPUs, one a reading.

    Args:
        read_cgroup: returns ``/proc/PID/cgroup``, None if the process is gone.
    """

    def __init__(
        self, driver: Driver, read_cgroup: Callable[[int], str | None] | None = None
    ) -> None:
        self._driver = driver
        self._read_cgroup = read_cgroup or read_proc
        self._seen_us: dict[str, int] = {}
        self._pods: dict[int, str] = {}  # of processes in the reading before, which may be gone

    def read(self) -> Account:
        """Return the use in each process's newest sample since the reading before.

        Raises:
            Transient: a GPU does not answer.
            Permanent: there is no driver, or it cannot be read.
        """
        found: dict[int, str] = {}
        uses: list[PodUse] = []
        for gpu in self._driver.gpus():
            samples = self._fresh(gpu)
            holdings = self._driver.holdings(gpu)
            for pid in {one.pid for one in samples} | {one.pid for one in holdings}:
                if pid not in found:
                    found[pid] = self._pod(pid)
            uses += _uses(gpu, samples, holdings, found)
        self._pods = found
        return Account(tuple(uses), {gpu: us / 1e6 for gpu, us in self._seen_us.items()})

    def gpus_of_pods(self) -> dict[str, dict[int, str]]:
        """Return, by uid of the pod, the GPUs on which it holds memory: place on the node, UUID.

        Raises:
            Transient: a GPU does not answer.
            Permanent: there is no driver, or it cannot be read.
        """
        found: dict[str, dict[int, str]] = {}
        for index, gpu in enumerate(self._driver.gpus()):
            for one in self._driver.holdings(gpu):
                found.setdefault(self._pod(one.pid), {})[index] = gpu
        found.pop(OTHER, None)
        return found

    def _fresh(self, gpu: str) -> list[Sample]:
        """Return each process's newest valid sample since the reading before.

        Drivers are known to fill up the answer with entries of an older time or of a share over
        100 %.
        """
        since_us = self._seen_us.get(gpu, 0)
        newest: dict[int, Sample] = {}
        for one in self._driver.samples(gpu, since_us):
            if one.time_us <= since_us or not 0 <= one.busy_percent <= 100:
                continue
            if one.pid not in newest or one.time_us > newest[one.pid].time_us:
                newest[one.pid] = one
        if newest:
            self._seen_us[gpu] = max(one.time_us for one in newest.values())
        return list(newest.values())

    def _pod(self, pid: int) -> str:
        """Return the uid of a process's pod. One that is gone was in the pod it was in before."""
        text = self._read_cgroup(pid)
        if text is None:
            return self._pods.get(pid, OTHER)
        return pod_of(text) or OTHER


def pod_of(cgroup: str) -> str | None:
    """Return the uid of the pod that a ``/proc/PID/cgroup`` names, with dashes as Kubernetes shows
    it; None if the process is in no pod. Lines are ``number:controllers:path``, one in version 2,
    one a controller in version 1."""
    for line in cgroup.splitlines():
        match = _POD.search(line)
        if match:
            return match[1].replace("_", "-")
    return None


def read_proc(pid: int) -> str | None:
    """Return a process's cgroups, None if it is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None


class Nvml:
    """The real driver, by nvidia-ml-py; opened by :func:`open_nvml`."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def gpus(self) -> list[str]:
        library = self._library
        return [
            str(
                self._ask(
                    library.nvmlDeviceGetUUID, self._ask(library.nvmlDeviceGetHandleByIndex, k)
                )
            )
            for k in range(self._ask(library.nvmlDeviceGetCount))
        ]

    def samples(self, gpu: str, since_us: int) -> list[Sample]:
        library = self._library
        try:
            found = self._ask(library.nvmlDeviceGetProcessUtilization, self._handle(gpu), since_us)
        except _NotFound:
            return []  # the driver's word for idle
        return [Sample(int(one.pid), int(one.timeStamp), int(one.smUtil)) for one in found]

    def holdings(self, gpu: str) -> list[Holding]:
        library, handle = self._library, self._handle(gpu)
        held: dict[int, int | None] = {}
        for ask in (
            library.nvmlDeviceGetComputeRunningProcesses,
            library.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            # A process in both lists holds its memory once.
            held |= {int(one.pid): one.usedGpuMemory for one in self._ask(ask, handle)}
        return [Holding(pid, None if size is None else int(size)) for pid, size in held.items()]

    def _handle(self, gpu: str) -> Any:
        return self._ask(self._library.nvmlDeviceGetHandleByUUID, gpu)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        library = self._library
        try:
            return call(*arguments)
        except library.NVMLError as error:
            if error.value == library.NVML_ERROR_NOT_FOUND:
                raise _NotFound(f"NVML: {error}") from error
            if error.value in {library.NVML_ERROR_TIMEOUT, library.NVML_ERROR_IN_USE}:
                raise Transient(f"NVML: {error}") from error
            raise Permanent(f"NVML: {error}; nvidia-smi shows whether the driver works") from error


class _NotFound(Permanent):
    """NVML has nothing under that name or since that time."""


def open_nvml() -> Nvml:
    """Return the machine's driver.

    Raises:
        Permanent: nvidia-ml-py is not installed, or the driver is not there.
    """
    try:
        import pynvml
    except ImportError as error:
        raise Permanent(
            "NVML: nvidia-ml-py is not installed: pip install edgelm[testbed]"
        ) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Permanent(f"NVML: {error}; install the NVIDIA driver") from error
    return Nvml(pynvml)


def _uses(
    gpu: str, samples: Iterable[Sample], holdings: Iterable[Holding], pods: Mapping[int, str]
) -> list[PodUse]:
    busy: dict[str, float] = {}
    memory: dict[str, int | None] = {}
    for sample in samples:
        pod = pods[sample.pid]
        busy[pod] = busy.get(pod, 0.0) + sample.busy_percent / 100
    for holding in holdings:
        pod, before = pods[holding.pid], memory.get(pods[holding.pid], 0)
        memory[pod] = None if before is None or holding.bytes is None else before + holding.bytes
    # A process that ran and has ended holds nothing.
    return [
        PodUse(gpu, pod, min(1.0, busy.get(pod, 0.0)), memory.get(pod, 0))
        for pod in sorted(busy.keys() | memory.keys())
    ]

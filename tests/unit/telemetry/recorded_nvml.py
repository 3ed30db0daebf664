"""NVML's answers as nvidia-ml-py gives them, recorded by hand in the shape of its structs: a module
in pynvml's place, built on pynvml's own structs, constants and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pynvml


def sample(pid: int, time_us: int, busy: int) -> Any:
    return pynvml.c_nvmlProcessUtilizationSample_t(
        pid=pid, timeStamp=time_us, smUtil=busy, memUtil=busy // 2, encUtil=0, decUtil=0
    )


def process(pid: int, size: int | None) -> Any:
    """A process as after nvmlStructToFriendlyObject, where an unknown size is None."""
    return pynvml.nvmlFriendlyObject(
        {"pid": pid, "usedGpuMemory": size, "gpuInstanceId": 2**32 - 1,
         "computeInstanceId": 2**32 - 1}
    )  # fmt: skip


@dataclass
class Gpu:
    """Answers of one GPU, in turn. An error in place of samples is raised."""

    uuid: str
    samples: list[Any] = field(default_factory=list)
    compute: list[Any] = field(default_factory=list)
    graphics: list[Any] = field(default_factory=list)


class RecordedNvml:
    """The functions of pynvml that accounting calls."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
    NVML_ERROR_TIMEOUT = pynvml.NVML_ERROR_TIMEOUT
    NVML_ERROR_IN_USE = pynvml.NVML_ERROR_IN_USE

    def __init__(self, *gpus: Gpu) -> None:
        self._gpus = gpus
        self.asked_since: list[int] = []

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:  # noqa: N802
        return next(one for one in self._gpus if one.uuid == uuid)

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:  # noqa: N802
        return handle.uuid

    def nvmlDeviceGetProcessUtilization(self, handle: Gpu, since: int) -> Any:  # noqa: N802
        self.asked_since.append(since)
        return answer(handle.samples)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Gpu) -> Any:  # noqa: N802
        return answer(handle.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Gpu) -> Any:  # noqa: N802
        return answer(handle.graphics)


def answer(recorded: list[Any]) -> Any:
    one = recorded.pop(0) if recorded else []
    if isinstance(one, int):
        raise pynvml.NVMLError(one)
    return one


Cgroups = Callable[[int], str | None]

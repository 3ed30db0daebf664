"""Accounting of pods on time-sliced GPUs, on answers in the shape of the driver's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.telemetry.gpu_accounting import (
    GpuAccounting,
    PodOnGpu,
    Utilisation,
    pod_of_cgroup,
    pod_of_process,
    read_memory,
    read_samples,
)

ONE = "0f1e2d3c-1111-2222-3333-444455556666"
TWO = "aaaabbbb-cccc-dddd-eeee-ffff00001111"
ID = "7" * 64


@dataclass
class Recorded:
    """A driver that answers from lists, as NVML does: samples newer than a moment."""

    samples: dict[str, list[Utilisation]] = field(default_factory=dict)
    held: dict[str, dict[int, int | None]] = field(default_factory=dict)

    def gpus(self) -> list[str]:
        return sorted({*self.samples, *self.held})

    def utilisation(self, gpu: str, since_us: int) -> list[Utilisation]:
        return [one for one in self.samples.get(gpu, []) if one.time_us > since_us]

    def memory(self, gpu: str) -> dict[int, int | None]:
        return self.held.get(gpu, {})


@pytest.mark.parametrize(
    ("text", "pod"),
    [
        (f"0::/kubepods/burstable/pod{ONE}/{ID}\n", ONE),
        (
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
            f"{ONE.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n",
            ONE,
        ),
        (
            f"0::/kubepods.slice/kubepods-pod{ONE.replace('-', '_')}.slice/crio-{ID}.scope\n",
            ONE,
        ),
        (f"12:pids:/\n4:memory:/kubepods/besteffort/pod{TWO}/{ID}\n1:name=systemd:/x\n", TWO),
        (f"0::/kubepods/pod{ONE}\n", ONE),
        ("0::/system.slice/sshd.service\n", None),
        ("0::/user.slice/podman-1234.scope\n", None),
        ("", None),
    ],
)
def test_a_cgroup_names_its_pod(text: str, pod: str | None) -> None:
    assert pod_of_cgroup(text) == pod


def test_a_process_that_is_gone_has_no_pod(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/kubepods/pod{ONE}/{ID}\n")
    assert pod_of_process(7, tmp_path) == ONE
    assert pod_of_process(8, tmp_path) is None


def test_two_pods_on_one_gpu_are_told_apart() -> None:
    driver = Recorded(
        {"g": [Utilisation(1, 10, 60), Utilisation(2, 10, 30), Utilisation(3, 11, 5)]},
        {"g": {1: 100, 2: 50, 3: 7}},
    )
    accounting = GpuAccounting(driver, {1: ONE, 2: TWO, 3: ONE}.get)
    reading = accounting.read()
    assert reading.pods == (
        PodOnGpu("g", ONE, pytest.approx(0.65), 107),
        PodOnGpu("g", TWO, pytest.approx(0.3), 50),
    )
    assert reading.last_seen_us == {"g": 11}
    assert reading.unattributed == {}


def test_an_idle_gpu_is_idle_not_an_error_and_old_samples_do_not_count_again() -> None:
    driver = Recorded({"g": [Utilisation(1, 10, 80)]}, {"g": {1: 5}})
    accounting = GpuAccounting(driver, {1: ONE}.get)
    assert accounting.read().pods[0].busy_ratio == 0.8
    idle = accounting.read()
    assert idle.pods == (PodOnGpu("g", ONE, 0.0, 5),)
    assert idle.last_seen_us == {"g": 10}


def test_a_process_that_ends_between_two_reads_keeps_its_pod_for_its_last_time() -> None:
    there = {1: ONE}
    driver = Recorded({"g": [Utilisation(1, 10, 40)]}, {"g": {1: 5}})
    accounting = GpuAccounting(driver, lambda pid: there.get(pid))
    accounting.read()
    there.clear()
    driver.held["g"] = {}
    driver.samples["g"].append(Utilisation(1, 20, 90))
    assert accounting.read().pods == (PodOnGpu("g", ONE, 0.9, 0),)
    driver.samples["g"].append(Utilisation(1, 30, 50))  # long gone: whose it is now is not known
    driver.samples["g"].append(Utilisation(9, 30, 20))
    reading = accounting.read()
    assert reading.pods == (PodOnGpu("g", ONE, 0.5, 0),)
    assert reading.unattributed == {"g": 0.2}


def test_memory_that_the_driver_does_not_tell_is_unknown() -> None:
    driver = Recorded({}, {"g": {1: None, 2: 3}})
    assert GpuAccounting(driver, {1: ONE, 2: ONE}.get).read().pods[0].memory_bytes is None


def test_structs_of_the_driver_are_read() -> None:
    samples = [
        SimpleNamespace(pid=7, timeStamp=5, smUtil=12, memUtil=3, encUtil=0, decUtil=0),
        SimpleNamespace(pid=0, timeStamp=0, smUtil=0, memUtil=0, encUtil=0, decUtil=0),
    ]
    assert read_samples(samples) == [Utilisation(7, 5, 12.0)]
    processes = [
        SimpleNamespace(pid=7, usedGpuMemory=1 << 30, gpuInstanceId=None),
        SimpleNamespace(pid=8, usedGpuMemory=None, gpuInstanceId=None),
    ]
    assert read_memory(processes) == {7: 1 << 30, 8: None}

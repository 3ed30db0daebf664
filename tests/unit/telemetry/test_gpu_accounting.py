"""GPU use by pod, on recorded answers of NVML and recorded cgroup files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pynvml
import pytest

from controller.domain.errors import Permanent, Transient
from controller.telemetry.exposition import Exposition, problems
from controller.telemetry.gpu_accounting import (
    OTHER,
    Account,
    GpuAccounting,
    Nvml,
    PodUse,
    measure,
    open_nvml,
    pod_of,
    read_proc,
)
from controller.telemetry.names import Emitter
from tests.unit.telemetry.recorded_nvml import Gpu, RecordedNvml, process, sample

A = "0d4e9a5c-7b1f-4c7e-9d2a-3f8b6c5a1e01"
B = "f1b2c3d4-0000-4aaa-8bbb-1234567890ab"
SLICE_B = B.replace("-", "_")
HASH = "3b1f2c4d5e6f708192a3b4c5d6e7f809"
ID = "5f2d1c0b" * 8


def under(pod: str) -> str:
    return (
        f"0::/kubepods.slice/kubepods-pod{pod.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n"
    )


@pytest.mark.parametrize(
    ("cgroup", "pod"),
    [
        (f"0::/kubepods/burstable/pod{A}/{ID}\n", A),
        (f"0::/kubepods/pod{A}/{ID}\n", A),
        (f"0::/kubepods/besteffort/pod{HASH}/{ID}\n", HASH),
        (under(A), A),
        (
            "0::/kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{A.replace('-', '_')}.slice/crio-{ID}.scope/container\n",
            A,
        ),
        (f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{HASH}.slice", HASH),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICE_B}.slice/x", B),
        (f"0::/../../kubepods.slice/kubepods-pod{SLICE_B}.slice/cri-containerd-{ID}.scope\n", B),
        (f"12:cpu,cpuacct:/kubepods/burstable/pod{A}/{ID}\n1:name=systemd:/\n", A),
        (f"4:memory:/user.slice\n3:pids:/kubepods/pod{B}/crio-{ID}\n", B),
        (
            "9:devices:/system.slice/containerd.service/kubepods-burstable-pod"
            f"{A.replace('-', '_')}.slice:cri-containerd:{ID}\n",
            A,
        ),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("0::/system.slice/docker-" + ID + ".scope\n", None),
        (f"0::/kubepods/burstable/podium{A}/x\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_pod_of_a_cgroup(cgroup: str, pod: str | None) -> None:
    assert pod_of(cgroup) == pod


def accounting(cgroups: dict[int, str], *gpus: Gpu) -> GpuAccounting:
    return GpuAccounting(Nvml(RecordedNvml(*gpus)), cgroups.get)


def test_two_pods_that_share_a_gpu_each_have_their_share_and_memory() -> None:
    gpu = Gpu(
        "GPU-1",
        samples=[[sample(11, 5_000_000, 55), sample(12, 5_000_100, 10), sample(21, 4_900_000, 30)]],
        compute=[[process(11, 3 * 2**30), process(12, 2**30), process(21, 2**31)]],
        graphics=[[process(11, 3 * 2**30)]],
    )
    account = accounting({11: under(A), 12: under(A), 21: under(B)}, gpu).read()
    assert account.uses == (
        PodUse("GPU-1", A, pytest.approx(0.65), 4 * 2**30),
        PodUse("GPU-1", B, pytest.approx(0.30), 2**31),
    )
    assert account.last_seen_s == {"GPU-1": 5.0001}


def test_each_reading_asks_for_what_is_newer_than_the_one_before() -> None:
    recorded = RecordedNvml(
        Gpu("GPU-1", samples=[[sample(11, 5_000_000, 50)], [sample(11, 6_000_000, 20)]])
    )
    account = GpuAccounting(Nvml(recorded), {11: under(A)}.get)
    assert [account.read().uses[0].busy, account.read().uses[0].busy] == [0.5, 0.2]
    account.read()
    assert recorded.asked_since == [0, 5_000_000, 6_000_000]


def test_not_found_is_idle_and_keeps_the_time_last_seen() -> None:
    gpu = Gpu(
        "GPU-1",
        samples=[[sample(11, 5_000_000, 50)], pynvml.NVML_ERROR_NOT_FOUND],
        compute=[[process(11, 7)], [process(11, 7)]],
    )
    account = accounting({11: under(A)}, gpu, Gpu("GPU-2", [pynvml.NVML_ERROR_NOT_FOUND] * 2))
    account.read()
    idle = account.read()
    assert idle.uses == (PodUse("GPU-1", A, 0.0, 7),)
    assert idle.last_seen_s == {"GPU-1": 5.0}


def test_a_process_gone_between_two_reads_stays_with_its_pod_and_then_is_forgotten() -> None:
    cgroups = {11: under(A)}
    gpu = Gpu(
        "GPU-1",
        samples=[[sample(11, 1, 50)], [sample(11, 2, 40)], [], [sample(11, 4, 30)]],
        compute=[[process(11, 7)]],
    )
    account = accounting(cgroups, gpu)
    account.read()
    del cgroups[11]
    assert account.read().uses == (PodUse("GPU-1", A, 0.4, 0),)
    assert account.read().uses == ()
    assert account.read().uses == (PodUse("GPU-1", OTHER, 0.3, 0),)


def test_a_pod_is_on_the_gpus_whose_memory_it_holds() -> None:
    cgroups = {11: under(A), 12: under(A), 13: under(B), 14: "0::/system.slice/x.service\n"}
    first = Gpu("GPU-1", compute=[[process(11, 7), process(13, 7), process(14, 1)]])
    second = Gpu("GPU-2", compute=[[process(12, 7)]])
    found = accounting(cgroups, first, second).gpus_of_pods()
    assert found == {A: {0: "GPU-1", 1: "GPU-2"}, B: {0: "GPU-1"}}


def test_a_process_number_used_again_is_placed_anew() -> None:
    cgroups = {11: under(A)}
    gpu = Gpu("GPU-1", samples=[[sample(11, 1, 50)], [sample(11, 2, 40)]])
    account = accounting(cgroups, gpu)
    account.read()
    cgroups[11] = under(B)
    assert [one.pod for one in account.read().uses] == [B]


def test_processes_of_the_host_and_those_never_placed_are_no_pod_s() -> None:
    gpu = Gpu("GPU-1", samples=[[sample(11, 1, 5), sample(12, 1, 6)]], compute=[[process(11, 9)]])
    assert accounting({11: "0::/system.slice/x.service\n"}, gpu).read().uses == (
        PodUse("GPU-1", OTHER, pytest.approx(0.11), 9),
    )


def test_entries_that_no_driver_should_give_are_left_out() -> None:
    gpu = Gpu(
        "GPU-1",
        samples=[
            [
                sample(11, 10, 50),
                sample(11, 9, 99),
                sample(12, 0, 0),
                sample(13, 11, 4_294_967_295),
            ],
            [sample(11, 10, 50)],
        ],
    )
    account = accounting({pid: under(A) for pid in (11, 12, 13)}, gpu)
    assert account.read().uses == (PodUse("GPU-1", A, 0.5, 0),)
    assert account.read().uses == ()


def test_rounded_shares_add_up_to_no_more_than_the_gpu() -> None:
    gpu = Gpu("GPU-1", samples=[[sample(11, 1, 60), sample(12, 1, 45)]])
    assert accounting({11: under(A), 12: under(A)}, gpu).read().uses[0].busy == 1.0


def test_memory_that_the_driver_does_not_say_is_unknown() -> None:
    gpu = Gpu("GPU-1", compute=[[process(11, None), process(12, 5)]])
    assert accounting({11: under(A), 12: under(A)}, gpu).read().uses[0].memory_bytes is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pynvml.NVML_ERROR_TIMEOUT, Transient),
        (pynvml.NVML_ERROR_GPU_IS_LOST, Permanent),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, Permanent),
    ],
)
def test_errors_of_the_driver(error: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="NVML"):
        accounting({}, Gpu("GPU-1", [error])).read()
    with pytest.raises(kind, match="NVML"):
        accounting({}, Gpu("GPU-1", [], [error])).read()


def test_no_process_number_is_shown() -> None:
    gpu = Gpu("GPU-1", [[sample(73119, 1_700_000_000_000_000, 50)]], [[process(73119, 2**30)]])
    account = accounting({73119: under(A)}, gpu).read()
    text = exposed(account).render()
    assert problems(text, Emitter.NODE) == []
    assert f'edgelm_pod_gpu_busy_ratio{{gpu="GPU-1",pod="{A}"}} 0.5' in text
    assert "73119" not in text + repr(account)


def exposed(account: Account) -> Exposition:
    exposition = Exposition(Emitter.NODE)
    measure(account, exposition)
    return exposition


def test_cgroups_of_real_processes() -> None:
    assert read_proc(os.getpid()) == Path("/proc/self/cgroup").read_text()
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert read_proc(ended.pid) is None


def test_a_machine_without_a_driver_says_so() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver: run it on one without")
    with pytest.raises(Permanent, match="install the NVIDIA driver"):
        open_nvml()


def test_recorded_answers_have_the_library_s_names() -> None:
    recorded: Any = RecordedNvml()
    for name in vars(RecordedNvml):
        if name.startswith(("nvml", "NVML")):
            assert hasattr(pynvml, name)
    assert recorded.nvmlDeviceGetCount() == 0

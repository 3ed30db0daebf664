"""Testbeds and profiles that do not go together are refused, saying why."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.domain.errors import InputError
from controller.inputs.catalog import check_feasible, locate, parse, read_yaml, scaled
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile

A5000 = "NVIDIA A5000"


class Pair:
    """The paper's testbed and profile, to be spoilt."""

    def __init__(self) -> None:
        self.testbed: Any = copy.deepcopy(read_yaml(locate("testbeds", "paper")))
        self.profile: Any = copy.deepcopy(read_yaml(locate("profiles", "a5000")))
        self.workers = self.testbed["all"]["children"]["workers"]["hosts"]
        self.lms = self.testbed["all"]["vars"]["edgelm_lms"]

    def check(self) -> None:
        check_feasible(
            parse(TestbedFile, "t.yaml", self.testbed), parse(ProfileFile, "p.yaml", self.profile)
        )

    def refusal(self) -> str:
        with pytest.raises(InputError) as caught:
            self.check()
        message = str(caught.value)
        assert message.startswith("testbed paper: ")
        return message


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.mark.parametrize(("testbed", "profile"), [("paper", "a5000"), ("campus", "t4")])
@pytest.mark.parametrize("nodes", [None, 60])
def test_shipped_pairs_are_feasible(testbed: str, profile: str, nodes: int | None) -> None:
    path = locate("testbeds", testbed)
    file = parse(TestbedFile, str(path), read_yaml(path))
    speeds = parse(ProfileFile, profile, read_yaml(locate("profiles", profile)))
    check_feasible(scaled(file, nodes) if nodes else file, speeds)


def test_lm_larger_than_every_node(pair: Pair) -> None:
    pair.lms[1]["memory"]["ram_gb"] = 40
    message = pair.refusal()
    assert "LM2: fits nowhere" in message
    assert "on vm2 it needs 40 GB of RAM, not the 29 allocatable" in message
    assert "and 2 more" in message
    assert "add such a node" in message


def test_lm_larger_than_every_gpu(pair: Pair) -> None:
    pair.lms[3]["vram"]["gb"] = 30
    message = pair.refusal()
    assert "LM4: fits nowhere" in message
    assert "on vm7 it" not in message or "needs 30 GB of vRAM, not 24" in message


def test_gpu_only_lm_without_any_gpu(pair: Pair) -> None:
    for worker in pair.workers.values():
        worker.pop("edgelm_gpus", None)
    message = pair.refusal()
    for lm in ("LM3", "LM4"):
        assert f"{lm}: fits nowhere: on vm2 it runs on GPUs only, and there is no GPU" in message
    assert "LM1" not in message


def test_node_smaller_than_any_lm(pair: Pair) -> None:
    pair.workers["vm2"]["edgelm_ram_gb"] = 5  # 3 of it reserved
    message = pair.refusal()
    assert "vm2: can run no LM" in message
    assert "LM3 needs 2.5 GB of RAM, not the 2 allocatable" in message
    assert "enlarge the node, or drop it" in message


def test_node_with_too_few_cores_for_its_gpu(pair: Pair) -> None:
    for lm in pair.lms:
        lm["gpu_only"] = True
    pair.workers["vm3"]["edgelm_cores"] = 1.5  # 1 of it reserved
    message = pair.refusal()
    assert "needs 1 cores beside a GPU, not 0.5" in message


def test_lm_missing_from_the_profile(pair: Pair) -> None:
    pair.lms[0]["name"] = "LM9"
    message = pair.refusal()
    assert "LM9: is not in profile a5000; that has LM1, LM2, LM3, LM4" in message


def test_hardware_missing_from_the_profile_is_named_once(pair: Pair) -> None:
    for name in ("vm3", "vm4"):
        pair.workers[name]["edgelm_gpus"]["model"] = "NVIDIA A6000"
    pair.workers["vm2"]["edgelm_cpu"] = "AMD EPYC 9999"
    first, *lines = pair.refusal().splitlines()
    assert first == "testbed paper: 2 errors:"
    assert "vm2: profile a5000 has no times for CPU 'AMD EPYC 9999'" in lines[0]
    assert "vm3, vm4: profile a5000 has no times for GPU 'NVIDIA A6000'" in lines[1]
    assert f"it has {A5000}" in lines[1]


def test_cpu_times_are_not_needed_where_everything_runs_on_gpus(pair: Pair) -> None:
    del pair.workers["vm2"]
    for lm in pair.lms:
        lm["gpu_only"] = True
        pair.profile["lms"][lm["name"]]["cpu"] = {}
    pair.check()


def test_pod_memory_below_what_the_profile_needs(pair: Pair) -> None:
    pair.lms[1]["memory"] |= {"ram_gb": 3, "min_ram_gb": 1}
    pair.lms[3]["vram"]["gb"] = 2
    message = pair.refusal()
    assert "LM2.memory.ram_gb: 3 GB is less than the 3.4 GB it needs" in message
    assert "give it 3.4 GB or more" in message
    assert "LM4.vram.gb: 2 GB is less than the 5 GB it needs" in message


def test_a_disk_holds_the_images_of_what_its_node_may_run_twice(pair: Pair) -> None:
    """vm2 may run LM1 and LM2, 20.5 GB of images; vm3 all four, 48 GB."""
    pair.workers["vm2"]["edgelm_disk_gb"] = 41
    pair.workers["vm3"]["edgelm_disk_gb"] = 96
    pair.check()
    pair.workers["vm2"]["edgelm_disk_gb"] = 40.9
    pair.workers["vm3"]["edgelm_disk_gb"] = 95
    first, *lines = pair.refusal().splitlines()
    assert first == "testbed paper: 2 errors:"
    assert "vm2.edgelm_disk_gb: cannot hold the images of LM1, LM2 twice" in lines[0]
    assert "(got 40.9); 41 GB or more" in lines[0]
    assert "vm3.edgelm_disk_gb: cannot hold the images of LM1, LM2, LM3, LM4 twice" in lines[1]


def test_more_gpus_than_the_twin_knows(pair: Pair) -> None:
    pair.workers["vm7"]["edgelm_gpus"]["count"] = 8
    pair.check()
    pair.workers["vm7"]["edgelm_gpus"]["count"] = 9
    with pytest.raises(
        InputError, match=r"vm7.edgelm_gpus.count: .*less than or equal to 8 .got 9."
    ):
        pair.check()

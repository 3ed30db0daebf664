"""What can run where, and how fast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF
from tests.reference.worlds import Ask, Model, node, requests, world
from tests.unit.policies.states import with_cores_on_gpu

SMALL = node(cores=2, ram_gb=4)
BIG = node(cores=16, ram_gb=32, gpus=2, slices=2, vram_gb=8)


def test_hosts_are_the_nodes_where_an_lm_fits_by_kind_and_memory() -> None:
    scenario = world(
        [SMALL, BIG],
        [
            Model(),  # anywhere
            Model(gpu_only=True),
            Model(cpu=None),  # no CPU speed in the profile
            Model(ram_gb=5),
            Model(cpu=None, vram_gb=9),  # too large for one GPU
            Model(vram_gb=9),  # but not for the cores
            Model(gpu=None),
            Model(cpu=None, gpu=None),
        ],
    )
    on_small = [True, False, False, False, False, True, True, False]
    on_big = [True, True, True, True, False, True, True, False]
    assert_array_equal(scenario.hosts(), [on_small, on_big])


@pytest.mark.parametrize(
    ("model", "on_cpu", "on_gpu"),
    [
        (Model(), True, True),
        (Model(gpu_only=True), False, True),
        (Model(vram_gb=8.1), True, False),
        (Model(ram_gb=32.1), False, False),
        (Model(gpu=None), True, False),
    ],
)
def test_an_lm_may_fit_one_device_and_not_the_other(
    model: Model, on_cpu: bool, on_gpu: bool
) -> None:
    scenario = world([BIG], [model])
    assert (scenario.on_cpu(0, 0), scenario.on_gpu(0, 0)) == (on_cpu, on_gpu)


def test_a_gpu_pod_needs_cores_of_its_host() -> None:
    scenario = world([BIG], [Model(cpu=None)])
    assert not with_cores_on_gpu(scenario, 17.0).on_gpu(0, 0)


def test_seconds_of_a_prompt_by_mode() -> None:
    models = [
        Model(cpu=Curve((1.0, 4.0), (8.0, 2.0))),
        Model(gpu=Curve((1.0, 2.0), (0.7, 0.5))),
        Model(),
    ]
    scenario = world([BIG], models)
    seconds = scenario.prompt_seconds(0, np.array([CPU, GPU, OFF]), np.array([2.5, 1.0, 0.0]))
    assert_array_equal(seconds, [5.0, 0.7, np.inf])


def test_a_testbed_names_its_parts_in_order() -> None:
    scenario = world([replace(SMALL, name="n0"), replace(BIG, name="n1")], [Model(), Model()])
    assert scenario.testbed.node_names == ("n0", "n1")
    assert scenario.testbed.lm_names == ("lm0", "lm1")
    assert [n.vgpus for n in scenario.testbed.nodes] == [0, 4]


def test_births_of_a_slot_are_counted_by_origin_and_lm() -> None:
    scenario: Scenario = world([SMALL, BIG], [Model(), Model()])
    asks = [
        Ask(1.0, lm=0, origin=1, prompts=3),
        Ask(10.0, lm=1, origin=1, prompts=4),
        Ask(12.0, lm=1, origin=1, prompts=2),
        Ask(19.9, lm=0, origin=0, prompts=1),
        Ask(20.0, lm=0, origin=0, prompts=8),
    ]
    born = requests(scenario, asks)
    assert len(born) == 5
    assert_array_equal(born.born_in(1, 2, 2), [[1, 0], [0, 6]])
    assert_array_equal(born.born_in(3, 2, 2), [[0, 0], [0, 0]])

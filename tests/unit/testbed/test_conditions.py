"""What deciders see of a node beside what its own service says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controller.domain.state import CPU, POD_READY
from controller.inputs.catalog import load_testbed
from controller.testbed.central.conditions import (
    FRESH_S,
    Condition,
    Room,
    Survey,
    differences,
    limited,
)
from tests.unit.policies.states import idle, shipped


def test_differences_name_node_figure_and_remedy() -> None:
    testbed = load_testbed("paper").to_domain()
    good = {
        one.name: Condition(one.name, True, True, "", Room(one.cores, one.ram_gb, one.vgpus))
        for one in testbed.nodes
    }
    assert differences(testbed, good) == []
    bad = dict(good)
    del bad["vm2"]
    bad["vm3"] = replace(good["vm3"], offered=Room(12.0, 21.0, 2))
    bad["vm4"] = replace(good["vm4"], open=False, reason="cordoned")
    bad["vm7"] = replace(good["vm7"], offered=Room(15.0, 20.5, 0))
    assert differences(testbed, bad) == [
        "vm2: in the testbed file, not in the cluster",
        "vm3: LM pods can have 12 cores, the testbed file says 15: raise edgelm_reserved.cores "
        "by 3",
        "vm4: cordoned",
        "vm7: LM pods can have 20.5 GB, the testbed file says 21: raise edgelm_reserved.ram_gb "
        "by 0.5",
        "vm7: nvidia.com/gpu is 0, the testbed file says 4 (2 GPUs in 2 slices): look at the "
        "device plugin there",
    ]


def test_deciders_see_what_the_cluster_knows_better() -> None:
    scenario = shipped()
    testbed = scenario.testbed
    state = idle(scenario)
    row = testbed.node_names.index("vm3")
    state.mode[row, 0], state.pod[row, 0], state.cores[row, 0] = CPU, POD_READY, 4.0
    found = {
        "vm3": Condition("vm3", True, True, "", Room(10.0, 11.0, 2)),
        "vm4": Condition("vm4", True, False, "cordoned", Room(15.0, 21.0, 2)),
        "vm5": Condition("vm5", False, False, "not ready: Unknown", Room(15.0, 21.0, 2)),
    }
    seen = limited(state, testbed, found)
    rows = [testbed.node_names.index(name) for name in ("vm2", "vm3", "vm4", "vm5")]
    assert seen.up[rows].tolist() == [True, True, True, False]
    assert seen.free_cores[rows].tolist() == [state.free_cores[rows[0]], 6.0, 0.0, 0.0]
    assert seen.free_ram_gb[row] == 8.0  # 11 GB less LM1's 3
    assert seen.free_vgpus[rows].tolist() == [0, 2, 0, 0]
    assert np.array_equal(seen.pod, state.pod)
    assert state.up.all()


def test_an_old_survey_does_not_count() -> None:
    one = Condition("vm3", False, False, "not ready: Unknown", Room())
    survey = Survey(1000.0, {"vm3": one})
    assert survey.fresh(1000.0 + FRESH_S) == {"vm3": one}
    assert survey.fresh(1001.0 + FRESH_S) == {}

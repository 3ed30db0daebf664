from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.bootstrap.twin import simulate
from controller.campaigns.faults import Faults, Outage, RandomOutages, draw_outages
from controller.domain.errors import InputError
from controller.domain.requests import FAILURES
from controller.inputs.catalog import load_testbed
from tests.samples.small import small_experiment

TESTBED = load_testbed("paper").to_domain()
HORIZON_S = 100_000.0


def draw(faults: Faults, seed: int = 0) -> list[tuple[int, float, float]]:
    return draw_outages(faults, TESTBED, HORIZON_S, np.random.default_rng(seed))


def test_scheduled_outages_are_by_row_and_in_order() -> None:
    faults = Faults(
        name="two",
        outages=(
            Outage(node="vm7", down_s=500, up_s=600),
            Outage(node="vm2", down_s=50),
            Outage(node="vm7", down_s=100, up_s=200),
        ),
    )
    assert draw(faults) == [(0, 50.0, np.inf), (5, 100.0, 200.0), (5, 500.0, 600.0)]


def test_overlapping_and_touching_outages_are_one() -> None:
    spans = ((10, 30), (20, 40), (40, 50), (60, 70))
    faults = Faults(outages=tuple(Outage(node="vm3", down_s=a, up_s=b) for a, b in spans))
    assert draw(faults) == [(1, 10.0, 50.0), (1, 60.0, 70.0)]


@given(seed=st.integers(0, 2**32), rate=st.floats(0.1, 20), repair_s=st.floats(1, 5000))
def test_random_outages_are_disjoint_per_node(seed: int, rate: float, repair_s: float) -> None:
    faults = Faults(name="r", random=RandomOutages(per_node_hour=rate, repair_s=repair_s))
    spans = draw(faults, seed)
    assert spans == draw(faults, seed)
    for node in range(len(TESTBED.nodes)):
        times_s = [t for span in spans if span[0] == node for t in span[1:]]
        assert all(earlier < later for earlier, later in pairwise(times_s))
        assert all(down_s < HORIZON_S for down_s in times_s[::2])


def test_random_outages_have_the_rate_and_repair_time_asked_for() -> None:
    faults = Faults(name="r", random=RandomOutages(per_node_hour=2, repair_s=60))
    spans = [span for seed in range(40) for span in draw(faults, seed)]
    down_s = np.array([up - down for _, down, up in spans])
    up_hours = (40 * len(TESTBED.nodes) * HORIZON_S - down_s.sum()) / 3600
    assert len(spans) / up_hours == pytest.approx(2, rel=0.03)
    assert down_s.mean() == pytest.approx(60, rel=0.03)


def test_only_the_nodes_named_are_lost() -> None:
    random = RandomOutages(per_node_hour=5, repair_s=60, nodes=("vm4",))
    assert {node for node, _, _ in draw(Faults(name="r", random=random))} == {2}


def test_an_unknown_node_is_named_with_the_choices() -> None:
    faults = Faults(
        name="bad",
        outages=(Outage(node="vm2", down_s=1), Outage(node="vm9", down_s=1, up_s=2)),
        random=RandomOutages(per_node_hour=1, repair_s=1, nodes=("vm8",)),
    )
    with pytest.raises(InputError) as caught:
        faults.check(TESTBED, "my.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "my.yaml: 2 errors:"
    assert "faults 'bad': outages[1].node: " in lines[0]
    assert "'vm9'); its nodes are vm2, vm3" in lines[0]
    assert "faults 'bad': random.nodes[0]: " in lines[1]


@pytest.mark.parametrize(("down_s", "up_s"), [(5, 5), (5, 4), (-1, 4), (float("nan"), 4)])
def test_an_outage_must_end_after_it_began(down_s: float, up_s: float) -> None:
    with pytest.raises(ValidationError):
        Outage(node="vm2", down_s=down_s, up_s=up_s)


def test_a_node_that_stays_down_fails_what_it_holds() -> None:
    faults = Faults(name="gone", outages=(Outage(node="vm2", down_s=0),))
    outcome = simulate(small_experiment(faults=faults))
    table = outcome.table
    held = (table.destination == 0) | (table.origin == 0)
    assert held.any()
    assert not table.success[held].any()
    assert {FAILURES[code] for code in table.failure[held]} == {"lost_node"}
    assert np.isnan(table.latency_s[held]).all()
    assert table.success[~held].any()

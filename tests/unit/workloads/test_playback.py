from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.errors import InputError
from controller.workloads.playback import play
from controller.workloads.processes import TraceFile
from controller.workloads.trace import Trace, parse_trace

HEAD = "# format: edgelm-trace/1\n# duration_s: 100\n"


def trace_of(rows: list[tuple[float, str, str]], head: str = HEAD) -> Trace:
    table = [f"{born},{lm},{origin},1" for born, lm, origin in rows]
    return parse_trace("\n".join([head + "born_s,lm,origin,prompts", *table]).encode(), "t.csv")


def played(trace, scenario, slots=100, load=1.0, **process):
    return play(TraceFile(file="t.csv", **process), trace, scenario, slots, load, (1, 2), "t.csv")


def born_s(arrivals, scenario):
    return ((arrivals.slot + arrivals.offset) * scenario.slot_s).tolist()


def test_load_compresses_time(scenario):
    trace = trace_of([(0, "LM1", "n0"), (30, "LM2", "n1"), (90, "LM4", "n5")])
    plain, dense, thin = (played(trace, scenario, load=x) for x in (1, 2, 0.5))
    assert born_s(plain, scenario) == [0, 30, 90]
    assert plain.slot.tolist() == [0, 1, 3]
    assert plain.lm.tolist() == [0, 1, 3]
    assert plain.origin.tolist() == [0, 1, 5]
    assert born_s(dense, scenario) == [0, 15, 45]
    assert born_s(thin, scenario) == [0, 60, 180]
    assert born_s(played(trace, scenario, load=0), scenario) == []
    assert born_s(played(trace, scenario, slots=0), scenario) == []


def test_the_horizon_ends_a_trace_and_repetition_fills_it(scenario):
    trace = trace_of([(0, "LM1", ""), (60, "LM1", "")])
    assert born_s(played(trace, scenario, slots=2), scenario) == [0]
    assert born_s(played(trace, scenario, slots=9), scenario) == [0, 60]
    again = played(trace, scenario, slots=9, repeat=True)
    assert born_s(again, scenario) == pytest.approx([0, 60, 100, 160, 200, 260])
    denser = played(trace, scenario, slots=3, load=2, repeat=True)
    assert born_s(denser, scenario) == pytest.approx([0, 30, 50, 80])


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.floats(0, 100), max_size=20),
    slots=st.integers(0, 60),
    load=st.floats(0.05, 4),
    slot_s=st.sampled_from([30.0, 0.1, 7.3]),
)
def test_every_request_is_in_its_slot(make_scenario, times, slots, load, slot_s):
    scenario = make_scenario(slot_s=slot_s)
    trace = trace_of([(time, "LM1", "") for time in sorted(times)])
    arrivals = played(trace, scenario, slots, load)
    expected = [time / load for time in sorted(times) if time / load < slots * slot_s]
    assert abs(len(arrivals.slot) - len(expected)) <= sum(
        abs(time / load - slots * slot_s) < 1e-9 for time in times
    )
    assert np.all((arrivals.slot >= 0) & (arrivals.slot < slots))
    assert np.all((arrivals.offset > -1e-9) & (arrivals.offset < 1 + 1e-9))
    assert born_s(arrivals, scenario) == pytest.approx(expected[: len(arrivals.slot)], abs=1e-9)


def test_open_origins_are_drawn_or_dealt_in_turn(scenario):
    rows = [(k / 10, "LM1", "") for k in range(600)]
    drawn = played(trace_of(rows), scenario).origin
    assert np.array_equal(drawn, played(trace_of(rows), scenario).origin)
    assert np.all(np.abs(np.bincount(drawn, minlength=6) - 100) < 4 * np.sqrt(100 * 5 / 6))
    mixed = trace_of([(0, "LM1", ""), (1, "LM1", "n4"), (2, "LM1", ""), (3, "LM1", "")])
    assert played(mixed, scenario, origins="round_robin").origin.tolist() == [0, 4, 1, 2]
    dealt = played(trace_of(rows), scenario, origins="round_robin").origin
    assert np.bincount(dealt).tolist() == [100] * 6


def test_clients_live_at_a_node(scenario):
    rows = [(0, "LM1", "@0"), (1, "LM1", "@5"), (2, "LM1", "@6"), (3, "LM1", "@13")]
    assert played(trace_of(rows), scenario).origin.tolist() == [0, 5, 0, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, "LM9", ""), "no such LM on testbed small .got 'LM9'.; it has LM1, LM2, LM3, LM4"),
        ((0, "LM1", "vm9"), "no such node on testbed small .got 'vm9'.; it has n0, n1, n2"),
        ((0, "LM1", "@x"), "no such node on testbed small .got '@x'."),
    ],
)
def test_names_must_be_those_of_the_testbed(row, message, scenario):
    with pytest.raises(InputError, match=message):
        played(trace_of([row]), scenario)


def test_a_trace_without_length_cannot_repeat(scenario):
    trace = trace_of([(0, "LM1", "")], head="")
    assert born_s(played(trace, scenario), scenario) == [0]
    with pytest.raises(InputError, match="a trace without length cannot repeat"):
        played(trace, scenario, repeat=True)

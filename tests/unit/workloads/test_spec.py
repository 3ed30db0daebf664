from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.inputs.catalog import load_profile, load_testbed, names, parse
from controller.workloads.processes import Bursty, Diurnal, Paper, Poisson, TraceFile
from controller.workloads.spec import SHIPPED, WorkloadFile, generate, load_workload

rates = st.floats(0, 3)
processes = st.one_of(
    st.builds(
        Paper,
        max_prompts=st.integers(1, 9),
        arrivals=st.sampled_from(["slot_start", "uniform"]),
    ),
    st.builds(Poisson, requests_per_slot=rates),
    st.builds(
        Bursty,
        calm_requests_per_slot=rates,
        burst_requests_per_slot=rates,
        calm_slots=st.floats(0.1, 50),
        burst_slots=st.floats(0.1, 50),
        scope=st.sampled_from(["node", "cluster"]),
    ),
    st.builds(
        Diurnal,
        requests_per_slot=rates,
        period_slots=st.floats(0.1, 500),
        amplitude=st.floats(0, 1),
        shift_slots=st.floats(-500, 500),
    ),
)


def workload(process) -> WorkloadFile:
    return WorkloadFile(name="test", summary="test", process=process)


@settings(max_examples=60, deadline=None)
@given(
    process=processes,
    slots=st.integers(0, 40),
    load=st.floats(0, 3),
    slot_s=st.sampled_from([30.0, 0.1, 7.3, 1e-3, 3600.0]),
    seed=st.integers(0, 2**31),
)
def test_requests_are_sorted_and_born_within_their_slot(
    make_scenario, process, slots, load, slot_s, seed
):
    scenario = make_scenario(nodes=3, lms=("A", "B"), slot_s=slot_s)
    requests = generate(workload(process), scenario, slots, np.random.default_rng(seed), load)
    order = np.lexsort((requests.lm, requests.origin, requests.born_s))
    assert np.array_equal(order, np.arange(len(requests)))
    assert np.all(requests.born_s >= requests.slot * slot_s)
    assert np.all(requests.born_s < (requests.slot + 1) * slot_s)
    assert np.all(np.diff(requests.slot) >= 0)
    assert np.all((requests.slot >= 0) & (requests.slot < slots))
    assert np.all((requests.prompts >= 1) & (requests.prompts <= process.max_prompts))
    assert set(requests.origin.tolist()) <= {0, 1, 2}
    assert set(requests.lm.tolist()) <= {0, 1}
    for column in ("lm", "origin", "prompts", "slot"):
        assert getattr(requests, column).dtype == np.int64
    for column in ("born_s", "work", "uplink_bytes", "downlink_bytes"):
        assert getattr(requests, column).dtype == np.float64


def test_synthetic_requests_are_reference_prompts(scenario):
    requests = generate(workload(Paper()), scenario, 20, np.random.default_rng(0))
    assert np.array_equal(requests.work, np.ones(len(requests)))
    k = requests.lm + 1  # conftest: LM k has 10 k input and 20 k output tokens
    assert requests.uplink_bytes == pytest.approx((100 + 40 * k + 5e5) * requests.prompts)
    assert requests.downlink_bytes == pytest.approx((50 + 80 * k + 5e5) * requests.prompts)


@pytest.mark.parametrize("load", [-0.1, float("nan"), float("inf"), 1e6])
def test_a_load_out_of_range_is_refused(load, scenario):
    with pytest.raises(InputError, match="load: must lie between 0 and 1000"):
        generate(workload(Paper()), scenario, 5, np.random.default_rng(0), load)


@pytest.mark.parametrize("name", names("workloads"))
def test_every_shipped_workload_serves_the_papers_testbed(name):
    testbed, profile = load_testbed("paper").to_domain(), load_profile("a5000").to_domain()
    scenario = Scenario(testbed, profile)
    loaded = load_workload(name)
    assert loaded.name == name
    requests = generate(loaded, scenario, 700, np.random.default_rng(0))
    assert set(requests.lm.tolist()) == {0, 1, 2, 3}
    assert set(requests.origin.tolist()) == set(range(len(testbed.nodes)))
    assert requests.slot[-1] > 690
    assert np.all(requests.work > 0)
    again = WorkloadFile.model_validate(json.loads(json.dumps(loaded.model_dump(mode="json"))))
    assert again == loaded


def test_the_load_of_the_shipped_trace_is_moderate():
    """Below the paper's own on every LM's GPU time, and not by much more than half."""
    testbed, profile = load_testbed("paper").to_domain(), load_profile("a5000").to_domain()
    scenario = Scenario(testbed, profile)
    gpu_s = []
    for name in ("paper", "azure-servegen"):
        requests = generate(load_workload(name), scenario, 700, np.random.default_rng(0))
        speed = [profile.lms[lm.name].gpu["NVIDIA A5000"].at(1) for lm in testbed.lms]
        gpu_s.append(float((requests.prompts * requests.work * np.array(speed)[requests.lm]).sum()))
    assert 0.4 < gpu_s[1] / gpu_s[0] < 0.9


def test_schema_names_every_kind():
    kinds = WorkloadFile.model_json_schema()["properties"]["process"]["discriminator"]["mapping"]
    assert set(kinds) == {"paper", "poisson", "bursty", "diurnal", "trace", "phases"}


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"kind": "weekly"}, "process.*weekly.*'paper', 'poisson'"),
        ({"kind": "paper", "max_prompts": 0}, "max_prompts.*greater than or equal to 1"),
        (
            {"kind": "paper", "max_prompt": 4},
            "max_prompt: is not a known field; known are kind, max_prompts",
        ),
        ({"kind": "poisson"}, "requests_per_slot: is missing"),
        ({"kind": "poisson", "requests_per_slot": -1}, "requests_per_slot.for all: .*equal to 0"),
        ({"kind": "poisson", "requests_per_slot": float("nan")}, "finite"),
        (
            {"kind": "diurnal", "requests_per_slot": 1, "period_slots": 9, "amplitude": 2},
            "amplitude",
        ),
        ({"kind": "phases", "phases": [], "inner": {"kind": "paper"}}, "phases"),
        ({"kind": "phases", "phases": [{"epochs": 0}], "inner": {"kind": "paper"}}, "epochs"),
        (
            {"kind": "phases", "phases": [{"epochs": 1}], "inner": {"kind": "trace", "file": "x"}},
            "inner.*'trace'",
        ),
    ],
)
def test_bad_workload_files_are_refused(process, message):
    data = {"name": "mine", "summary": "mine", "process": process}
    with pytest.raises(InputError, match=message):
        parse(WorkloadFile, "mine.yaml", data)


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(InputError, match=r"weekly.*azure-servegen.*paper"):
        load_workload("weekly")


TRACE = "born_s,lm,origin,prompts,output_tokens\n0,LM1,n0,1,20\n40,LM2,n1,2,\n70,LM2,,3,120\n"


@pytest.fixture
def own(tmp_path):
    """A workload file with a trace of its own beside it."""
    (tmp_path / "mine.csv").write_text(TRACE)
    path = tmp_path / "mine.yaml"
    process = {"kind": "trace", "file": "mine.csv"}
    path.write_text(yaml.safe_dump({"name": "mine", "summary": "mine", "process": process}))
    return path


def test_a_trace_lies_beside_its_workload_file(own, scenario):
    requests = generate(load_workload(str(own)), scenario, 10, np.random.default_rng(0))
    assert requests.born_s.tolist() == [0, 40, 70]
    assert requests.lm.tolist() == [0, 1, 1]
    assert requests.prompts.tolist() == [1, 2, 3]
    assert requests.work == pytest.approx([1.0, 1.0, (20 + 60) / (20 + 20)])
    assert requests.uplink_bytes[2] == pytest.approx(3 * (100 + 4 * 20 + 5e5))
    assert requests.downlink_bytes[2] == pytest.approx(3 * (50 + 4 * 120 + 5e5))


def test_the_digest_follows_the_content_not_the_place(own, tmp_path):
    first = load_workload(str(own)).process.sha256
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved, ignore=lambda *_: ["elsewhere"])
    assert load_workload(str(moved / "mine.yaml")).process.sha256 == first
    (tmp_path / "mine.csv").write_text(TRACE.replace("40,", "41,"))
    assert load_workload(str(own)).process.sha256 != first


def test_a_trace_that_changed_since_it_was_loaded_is_refused(own, tmp_path, scenario):
    loaded = load_workload(str(own))
    (tmp_path / "mine.csv").write_text(TRACE.replace("40,", "41,"))
    with pytest.raises(InputError, match="has changed since the workload was loaded"):
        generate(loaded, scenario, 10, np.random.default_rng(0))


def test_a_trace_that_is_not_there_is_refused(own, tmp_path):
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(InputError, match=r"mine\.csv: no such request file; looked at .*mine"):
        load_workload(str(own))


def test_a_malformed_trace_is_refused_when_it_is_loaded(own, tmp_path):
    (tmp_path / "mine.csv").write_text(TRACE.replace("40,", "-40,"))
    with pytest.raises(InputError, match=r"mine\.csv, line 3: born_s: .*'-40'"):
        load_workload(str(own))


def test_a_shipped_trace_keeps_its_name_wherever_it_is_installed():
    process = load_workload("azure-servegen").process
    assert isinstance(process, TraceFile)
    assert process.file == "azure-servegen.csv"
    assert len(process.sha256) == 64
    assert (SHIPPED / process.file).stat().st_size < 400_000

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from controller.bootstrap.twin import simulate
from controller.domain.requests import REFUSED, Requests
from controller.results.summary import moved_bytes
from controller.results.tables import requests_parquet, slots_parquet
from controller.results.writing import run_files
from controller.twin.layout import REQUEST
from controller.twin.records import request_table
from tests.samples.small import small_experiment, small_outcome

NAMES = {
    pl.Int64: "int64", pl.Int32: "int32", pl.Float64: "float64", pl.Boolean: "bool",
    pl.String: "string", pl.List(pl.String): "list of string",
}  # fmt: skip


def documented(name: str) -> list[tuple[str, str]]:
    """(column, type) of a table, in the order of docs/records.md."""
    page = (Path(__file__).parents[3] / "docs" / "records.md").read_text()
    table = page.split(f"## {name}")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", table, re.MULTILINE)
    return [(column, kind) for names, kind in rows for column in re.findall(r"`(\w+)`", names)]


def described(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return [(column, NAMES[kind]) for column, kind in frame.schema.items()]


PARTS = ("uplink_s", "queue_s", "inference_s", "downlink_s")


@pytest.fixture(scope="module")
def requests() -> pl.DataFrame:
    """A run past saturation: some requests are late, some never start."""
    outcome = simulate(small_experiment(load=4.0, tau_s=120.0, strategy="RR"))
    frame = pl.read_parquet(io.BytesIO(requests_parquet(outcome.table, outcome.scenario.testbed)))
    assert 0.05 < frame["success"].mean() < 0.95  # type: ignore[operator]
    return frame


def test_requests_have_the_columns_agreed(requests: pl.DataFrame) -> None:
    assert described(requests) == documented("requests.parquet")
    assert requests["request_id"].to_list() == list(range(len(requests)))
    assert requests["born_s"].is_sorted()


def test_latency_is_the_sum_of_its_parts(requests: pl.DataFrame) -> None:
    back = requests.filter(pl.col("returned_s").is_not_null())
    parts = sum(back[part].to_numpy() for part in PARTS)
    assert np.allclose(parts, back["latency_s"].to_numpy(), rtol=0, atol=1e-9)
    assert np.array_equal(back["latency_s"], back["returned_s"] - back["born_s"])
    assert min(back[part].min() for part in PARTS) >= 0  # type: ignore[type-var]


def test_times_never_reached_are_null(requests: pl.DataFrame) -> None:
    lost = requests.filter(pl.col("returned_s").is_null())
    assert len(lost)
    for column in ("latency_s", "queue_s", "downlink_s"):
        assert lost[column].null_count() == len(lost)
    waiting = lost.filter(pl.col("started_s").is_null())
    assert len(waiting)
    assert waiting["inference_s"].null_count() == len(waiting)
    assert waiting["uplink_s"].null_count() == waiting["arrived_s"].null_count()
    assert not requests.select(pl.col(pl.Float64).is_nan().any()).row(0).count(True)


def test_success_and_failure_exclude_each_other(requests: pl.DataFrame) -> None:
    assert (requests["failure"].is_null() == requests["success"]).all()
    assert set(requests["failure"].drop_nulls()) <= {
        "deadline", "not_deployed", "refused", "lost_node", "unfinished"
    }  # fmt: skip
    in_time = requests.filter(pl.col("success"))
    assert (in_time["latency_s"] <= 120.0).all()


def test_a_refused_request_went_nowhere() -> None:
    records = np.zeros(2, REQUEST)
    for name in ("sent_s", "arrived_s", "started_s", "finished_s", "returned_s"):
        records[name] = np.nan
    records["sent_s"] = [np.nan, 1.0]
    records["destination"] = [-1, 1]
    records["failure"] = [REFUSED, 0]
    records["attempts"], records["recomputed"] = [0, 1], [0, 2]
    table = request_table(records, np.zeros(2, np.int64))
    testbed = small_outcome().scenario.testbed
    frame = pl.read_parquet(io.BytesIO(requests_parquet(table, testbed)))
    assert frame["destination"].to_list() == [None, "vm3"]
    assert frame["failure"].to_list() == ["refused", "unfinished"]
    assert frame["success"].to_list() == [False, False]
    assert frame["uplink_s"].null_count() == 2
    assert frame["attempts"].to_list() == [0, 1]
    assert frame["recomputed_prompts"].to_list() == [0, 2]


def test_slots_are_complete_and_ordered() -> None:
    outcome = small_outcome()
    testbed, states = outcome.scenario.testbed, outcome.journal.states
    frame = pl.read_parquet(io.BytesIO(slots_parquet(states, testbed)))
    assert described(frame) == documented("slots.parquet")
    assert len(frame) == len(states) * 6 * 4
    expected = [
        (s.slot, n, lm) for s in states for n in testbed.node_names for lm in testbed.lm_names
    ]
    assert frame.select("slot", "node", "lm").rows() == expected
    last = frame.filter(slot=states[-1].slot)
    assert last["cores"].to_list() == states[-1].cores.ravel().tolist()
    assert set(frame["mode"]) <= {"off", "cpu", "gpu"}
    assert set(frame["state"]) <= {"off", "pending", "starting", "ready", "stopping"}
    assert frame["busy_s"].is_between(0, outcome.scenario.slot_s + 1e-9).all()


def test_a_pods_gpus_are_named_by_node_and_index() -> None:
    outcome = small_outcome()
    testbed, first = outcome.scenario.testbed, outcome.journal.states[0]
    cards = np.zeros_like(first.cards)
    cards[1, 0], cards[5, 1], cards[5, 2], cards[2, 3] = 0b1, 0b11, 0b10, -1
    state = dataclasses.replace(first, cards=cards)
    frame = pl.read_parquet(io.BytesIO(slots_parquet([first, state], testbed)))
    last = frame.filter(pl.int_range(pl.len()) >= len(frame) // 2)
    found = {(node, lm): gpus for node, lm, gpus in last.select("node", "lm", "gpus").rows()}
    assert found["vm3", "LM1"] == ["vm3/0"]
    assert found["vm7", "LM2"] == ["vm7/0", "vm7/1"]
    assert found["vm7", "LM3"] == ["vm7/1"]
    assert found["vm4", "LM4"] is None
    assert sum(gpus == [] for gpus in found.values()) == len(found) - 4


def test_a_pod_has_gpus_iff_it_has_slices() -> None:
    outcome = small_outcome()
    testbed = outcome.scenario.testbed
    frame = pl.read_parquet(io.BytesIO(slots_parquet(outcome.journal.states, testbed)))
    assert ((frame["gpus"].list.len() > 0) == (frame["vgpus"] > 0)).all()


def test_a_run_without_slots_has_empty_tables() -> None:
    testbed = small_outcome().scenario.testbed
    frame = pl.read_parquet(io.BytesIO(slots_parquet([], testbed)))
    assert described(frame) == documented("slots.parquet")
    assert len(frame) == 0


def test_busy_time_is_the_service_of_the_requests() -> None:
    outcome = small_outcome()
    busy_s = sum(float(state.busy_s.sum()) for state in outcome.journal.states)
    assert busy_s == pytest.approx(np.nansum(outcome.table.inference_s), rel=1e-9)


def test_files_follow_from_the_experiment_alone() -> None:
    experiment = small_experiment(strategy="RL")
    first, second = (run_files(experiment.canonical_json(), simulate(experiment)) for _ in range(2))
    summaries = [json.loads(files.pop("summary.json")) for files in (first, second)]
    assert first == second
    assert first["experiment.json"] == experiment.canonical_json().encode()
    for summary in summaries:
        assert summary.pop("wall_s") > 0
    assert summaries[0] == summaries[1]


def test_only_what_crosses_nodes_is_moved() -> None:
    records = np.zeros(4, REQUEST)
    records["destination"] = [0, 1, 1, -1]
    records["arrived_s"] = [0, 0, np.nan, np.nan]
    records["returned_s"] = [1, np.nan, np.nan, np.nan]
    records["origin"] = [1, 0, 0, 0]
    table = request_table(records, np.zeros(4, np.int64))
    ints, floats = np.zeros(4, np.int64), np.zeros(4)
    up, down = np.full(4, 100.0), np.full(4, 1.0)
    assert moved_bytes(Requests(ints, ints, ints, ints, floats, floats, up, down), table) == 201


def test_the_documentation_names_every_file_and_every_key_of_a_decision() -> None:
    page = (Path(__file__).parents[3] / "docs" / "records.md").read_text()
    experiment = small_experiment()
    files = run_files(experiment.canonical_json(), small_outcome())
    names = set(json.loads(files["decisions.jsonl"].splitlines()[0]))
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert all(f"## {name}" in page for name in files)

"""Journals in files: whole lines only, one order whoever wrote first, no record twice."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from controller.domain.decisions import Call, Decision, Deployment, RoutingPlan
from controller.domain.errors import InputError
from controller.domain.state import take_rows
from controller.results.spool import Spool, merge_spools
from controller.results.tables import slots_parquet
from tests.samples.spools import contents
from tests.unit.policies.states import idle, shipped

SCENARIO = shipped()
TESTBED = SCENARIO.testbed
SHAPE = len(TESTBED.nodes), len(TESTBED.lms)
PLAN = RoutingPlan(np.zeros(SHAPE, np.int64))


def node(spool: Spool, n: int, slot: int) -> None:
    """One slot of one node's process."""
    state = take_rows(idle(SCENARIO, slot=slot), np.array([n]))
    none = np.zeros((1, SHAPE[1]), np.int64)
    made = Deployment(none, none.astype(np.float64), none)
    spool.deployed(slot, state, Decision(made, (Call(took_s=n / 10),)), none > 0)
    spool.observed(state)


def places(merged: bytes) -> list[tuple[int, str, str | None]]:
    lines = [json.loads(line) for line in merged.splitlines()]
    return [(line["slot"], line["tier"], line["node"]) for line in lines]


def test_lines_of_several_processes_are_in_the_order_of_slot_tier_and_node(tmp_path: Path) -> None:
    centre, late, early = (Spool(tmp_path / f"{k}.jsonl", TESTBED) for k in "zab")
    with centre, late, early:
        for slot in (0, 1):
            node(late, 5, slot)
            node(early, 1, slot)
            centre.scheduled(slot, Decision(PLAN))
    whole = merge_spools(contents(sorted(tmp_path.iterdir())), TESTBED)
    merged, states = whole.lines, whole.states
    nodes = TESTBED.node_names
    assert places(merged) == [
        (slot, *who)
        for slot in (0, 1)
        for who in (("scheduler", None), ("deployer", nodes[1]), ("deployer", nodes[5]))
    ]
    assert [(state.slot, state.rows.tolist()) for state in states] == [(0, [1, 5]), (1, [1, 5])]


def test_a_line_that_a_kill_cut_short_is_gone_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "centre.jsonl"
    with Spool(path, TESTBED) as spool:
        spool.scheduled(0, Decision(PLAN))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"slot":1,"tier":"sched')
    assert places(merge_spools(contents([path]), TESTBED).lines) == [(0, "scheduler", None)]
    with Spool(path, TESTBED) as again:
        again.scheduled(2, Decision(PLAN))
    assert [slot for slot, *_ in places(merge_spools(contents([path]), TESTBED).lines)] == [0, 2]


def test_of_two_records_of_a_slot_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "centre.jsonl"
    with Spool(path, TESTBED) as spool:
        spool.scheduled(3, Decision(PLAN))
        spool.missed(3, "scheduler", np.zeros(0, np.int64), "the process ended")
    merged = merge_spools(contents([path]), TESTBED).lines
    (line,) = merged.splitlines()
    assert json.loads(line)["outcome"] == "ok"


def test_a_decision_counts_more_than_a_miss_recorded_before_it(tmp_path: Path) -> None:
    path = tmp_path / "centre.jsonl"
    with Spool(path, TESTBED) as spool:
        spool.missed(3, "scheduler", np.zeros(0, np.int64), "the cluster did not answer")
    with Spool(path, TESTBED) as restarted:
        restarted.scheduled(3, Decision(PLAN))
    (line,) = merge_spools(contents([path]), TESTBED).lines.splitlines()
    assert json.loads(line)["outcome"] == "ok"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b'"took_s":1.25', b'"took_s":9.25'),
        lambda content: content.replace(b'"slot":1', b'"slot":7', 1),
        lambda content: content.replace(b"\n", b"\r", 1),
        lambda content: content.replace(b"\n", b"", 1),
        lambda content: content[:40] + bytes(20) + content[60:],
        lambda content: content[40:],
        lambda content: content + b"null\n",
    ],
    ids=["digit", "slot", "end of a line", "no end of a line", "zeros", "beginning", "foreign"],
)
def test_a_damaged_line_is_named_and_never_merged(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "centre.jsonl"
    with Spool(path, TESTBED) as spool:
        for slot in (0, 1):
            spool.scheduled(slot, Decision(PLAN, (Call(took_s=1.25),)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"centre\.jsonl: line \d is damaged; remove the line"):
        merge_spools(contents([path]), TESTBED)


def test_slots_whose_states_some_nodes_did_not_record_are_in_the_table(tmp_path: Path) -> None:
    with Spool(tmp_path / "a", TESTBED) as spool:
        for n, slot in ((0, 0), (1, 0), (1, 2)):
            node(spool, n, slot)
    states = merge_spools(contents([tmp_path / "a"]), TESTBED).states
    table = pl.read_parquet(io.BytesIO(slots_parquet(states, TESTBED)))
    found = table.select("slot", "node").unique(maintain_order=True).rows()
    nodes = TESTBED.node_names
    assert found == [(0, nodes[0]), (0, nodes[1]), (2, nodes[1])]
    assert table["lm"].to_list() == list(TESTBED.lm_names) * 3


def test_what_was_missed_is_a_decision_of_nothing_with_its_reason(tmp_path: Path) -> None:
    with Spool(tmp_path / "node.jsonl", TESTBED) as spool:
        spool.missed(4, "deployer", np.array([2]), "the node did not answer")
    (line,) = merge_spools(contents([tmp_path / "node.jsonl"]), TESTBED).lines.splitlines()
    found = json.loads(line)
    assert (found["node"], found["decided"], found["outcome"]) == (
        TESTBED.node_names[2], None, "late",
    )  # fmt: skip
    assert found["fault"] == "the node did not answer"

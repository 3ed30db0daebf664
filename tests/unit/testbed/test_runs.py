"""A run as the controller's deciders see it, by the wall clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from controller.domain.phases import RUNNING
from controller.domain.state import ClusterState
from controller.store.sqlite import open_store
from controller.testbed.central.runs import RunAtCentre
from controller.testbed.node.calls import call_id
from controller.testbed.node.records import Record, Request
from tests.samples.small import small_experiment

LEAD_S = 3.0


def observed(folder: Path, slots: float, speed: float = 20.0) -> ClusterState:
    """What is seen ``slots`` after the first slot's begin, nodes having reported before it only."""
    one = small_experiment(target="emulated")
    document = {
        "id": one.run_id, "incarnation": 1, "asked_unix_s": 0.0, "phase": RUNNING,
        "speed": speed, "slots": 10,
        "began_unix_s": time.time() - slots * one.slot_s / speed,
    }  # fmt: skip
    with contextlib.closing(open_store(folder / "store.sqlite")) as store:
        run = RunAtCentre(document, one.scenario(), store, folder)
        for heard in run.heard.values():
            heard.heard_unix_s = document["began_unix_s"] - LEAD_S
        return asyncio.run(run.observe())


def test_nodes_are_there_when_a_run_begins(tmp_path: Path) -> None:
    """At twenty times the speed, what leads to the first slot is two slots of silence."""
    assert observed(tmp_path, 0.0).up.all()


def test_nodes_that_say_nothing_for_over_two_slots_are_not(tmp_path: Path) -> None:
    assert not observed(tmp_path, 3.0).up.any()


def test_a_run_waits_for_calls_and_does_not_count_them(tmp_path: Path) -> None:
    one = small_experiment(target="emulated")
    document = {
        "id": one.run_id, "incarnation": 1, "asked_unix_s": 0.0, "phase": RUNNING, "speed": 20.0,
        "slots": 10, "began_unix_s": time.time(), "played": 2,
    }  # fmt: skip

    def record(key: int) -> Record:
        return Record(Request(key, "LM1", "vm2", 1, 0, 0.0, 1, "c"), None, 0, "refused")

    with contextlib.closing(open_store(tmp_path / "store.sqlite")) as store:
        run = RunAtCentre(document, one.scenario(), store, tmp_path)
        for key in (0, call_id(0, 0, 0), call_id(0, 0, 1)):
            run.take_back(record(key), 0.0)
        assert not asyncio.run(run.settled()), "a request of the player is missing"
        assert (run.progress()["records"], run.progress()["calls"]) == (3, 2)
        run.take_back(record(1), 0.0)
        run.heard["vm3"].open_calls = 1
        assert not asyncio.run(run.settled()), "a call is open"
        run.heard["vm3"].open_calls = 0
        assert asyncio.run(run.settled())

"""The screen of `edgelm status`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from controller.cli.condition import _screen


def pod(state: str, reason: str = "") -> dict[str, Any]:
    return {"state": state, "cores": 1.0, "vgpus": 2, "queue": 3, "reason": reason}


def test_a_pod_that_waits_says_why_below_the_table() -> None:
    node = {
        "fault": "",
        "run": {
            "open": 1,
            "orders": {"slot": 4},
            "lms": {"LM1": pod("pending", "0/7 nodes: Insufficient cpu"), "LM2": pod("ready")},
        },
    }
    run = {
        "id": "ab", "phase": "running", "waiting_for": [], "slot": 4, "slots": 8, "succeeded": 0,
        "failures": {}, "policy_slot": 0, "plan_slot": 3, "plan": {"LM1": {}, "LM2": {}},
    }  # fmt: skip
    found = {
        "run": run, "nodes": {"vm3": node, "vm4": {"fault": "away", "run": None}}, "conditions": {},
        "lease": None, "store_fault": "", "approval": None,
    }  # fmt: skip
    console = Console(width=120)
    with console.capture() as screen:
        console.print(_screen(found))
    lines = screen.get().splitlines()
    assert lines[-1] == "LM1 on vm3 (pending): 0/7 nodes: Insufficient cpu"
    assert sum("LM2 on" in line for line in lines) == 0

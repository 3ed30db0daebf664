"""Calls at a node: ids that nobody else has, and results that are their callers' alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.decisions import Stamp
from controller.testbed.clock import WallClock
from controller.testbed.node import events
from controller.testbed.node.calls import FIRST_CALL, call_id, calls_of, is_call
from controller.testbed.node.disk import NodeDisk
from controller.testbed.node.executor import Ended, Executor, checksum_of
from controller.testbed.node.log import from_line
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Record, Request
from controller.testbed.node.settings import NodeSettings

PAYLOAD, RESULT = b'{"prompts": [{"text": "a"}]}', b'{"results": []}'
parts = st.tuples(st.integers(0, 2**14 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))


@given(parts, parts)
def test_no_two_calls_share_an_id(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    ids = call_id(*one), call_id(*other)
    assert (ids[0] == ids[1]) == (one == other)
    assert all(FIRST_CALL <= key < 2**63 and is_call(key) for key in ids)
    assert ids[0] in calls_of(one[0])
    assert (ids[1] in calls_of(one[0])) == (one[0] == other[0])
    assert not is_call(one[2]), "rows of a workload are none"


@pytest.mark.parametrize("wrong", [(-1, 0, 0), (2**14, 0, 0), (0, 2**16, 0), (0, 0, 2**32)])
def test_an_id_without_room_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not within"):
        call_id(*wrong)


class Nobody:
    async def send(self, *args: Any) -> Any:
        raise AssertionError

    give_back = cancel = send


class Servers:
    """Servers that compute at once, or never."""

    def __init__(self, *, answers: bool) -> None:
        self.answers, self.cancelled = answers, 0

    async def compute(self, order: Any, payload: bytes, notify: Any) -> None:
        assert payload == PAYLOAD
        if not self.answers:
            await asyncio.Event().wait()
        notify(events.PromptDone(0.0, order.request_id, order.remaining, 0.0), RESULT)

    async def cancel(self, lm: str, request_id: int) -> None:
        self.cancelled += 1


class Reports:
    def __init__(self) -> None:
        self.records: dict[int, Record] = {}

    def arrived(self, request_id: int, arrived_s: float) -> None: ...

    def closed(self, record: Record, confirm: Callable[[], None]) -> None:
        self.records[record.request.request_id] = record
        confirm()


class Node:
    """A node whose LM is ready, and whose plan keeps requests here, or refuses them."""

    def __init__(self, folder: Path, *, answers: bool = True, refuses: bool = False) -> None:
        self.clock = WallClock(0.0, now_s=lambda: 1.0)
        self.disk = NodeDisk(folder / "node.sqlite")
        self.servers, self.reports = Servers(answers=answers), Reports()
        self.executor = Executor(
            NodeMachine(NodeSettings("vm2", ("LM1",)), check=True), self.disk, self.clock,
            Nobody(), self.servers, self.reports, lambda event: None, calls_of(0),
        )  # fmt: skip
        lines = tuple(map(from_line, self.disk.lines()))
        self.executor.post(events.Restarted(1.0, lines))
        where = None if refuses else "vm2"
        self.executor.post(events.OrdersReceived(1.0, Stamp(0), (("LM1", where),)))
        self.executor.post(events.PodStateChanged(1.0, "LM1", "ready"))

    async def call(self, number: int = 0) -> tuple[Record, bytes | None]:
        request = Request(
            call_id(0, 0, number), "LM1", "vm2", 1, 0, 1.0, len(PAYLOAD), checksum_of(PAYLOAD)
        )
        return await self.executor.call(request, PAYLOAD)

    def left(self) -> list[int]:
        return self.disk.results_of(calls_of(0))


def run(node: Node, work: Callable[[], Any]) -> Any:
    """Let a node work while something is asked of it."""

    async def both() -> Any:
        running = asyncio.create_task(node.executor.run())
        try:
            return await asyncio.wait_for(work(), 10)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return asyncio.run(both())


def test_a_call_returns_its_record_and_results_which_are_dropped_then(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def ask() -> tuple[Record, bytes | None]:
        found = await node.call()
        while node.left():
            await asyncio.sleep(0.01)
        return found

    record, results = run(node, ask)
    assert record.success
    assert record.destination == "vm2"
    assert results == RESULT
    assert node.disk.payload(record.request.request_id) is None
    assert list(node.reports.records) == [record.request.request_id], "it is on record"
    assert node.executor.open_calls == 0


def test_a_call_that_the_plan_refuses_says_so(tmp_path: Path) -> None:
    node = Node(tmp_path, refuses=True)
    record, results = run(node, node.call)
    assert (record.failure, results) == ("refused", None)


def test_a_call_of_an_unknown_lm_is_not_taken(tmp_path: Path) -> None:
    node = Node(tmp_path)
    request = Request(call_id(0, 0, 0), "LM9", "vm2", 1, 0, 1.0, 1, "")
    with pytest.raises(ValueError, match="unknown LM"):
        run(node, lambda: node.executor.call(request, PAYLOAD))


def test_a_caller_that_goes_away_frees_the_server(tmp_path: Path) -> None:
    node = Node(tmp_path, answers=False)

    async def leave() -> None:
        calling = asyncio.create_task(node.call())
        while node.executor.open_calls == 0 or not node.executor._computing:
            await asyncio.sleep(0.01)
        calling.cancel()
        while not node.reports.records or not node.servers.cancelled:
            await asyncio.sleep(0.01)

    run(node, leave)
    (record,) = node.reports.records.values()
    assert record.failure == "cancelled"


def test_the_end_of_a_run_is_told_to_who_waits(tmp_path: Path) -> None:
    node = Node(tmp_path, answers=False)

    async def end() -> None:
        running = asyncio.create_task(node.executor.run())
        calling = asyncio.create_task(node.call())
        while node.executor.open_calls == 0:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(Ended):
            await calling
        with pytest.raises(Ended):
            await node.call(1)

    asyncio.run(asyncio.wait_for(end(), 10))


def test_a_run_that_never_worked_answers_too(tmp_path: Path) -> None:
    """It may be cancelled while its pods are still being prepared."""
    node = Node(tmp_path)

    async def end() -> None:
        calling = asyncio.create_task(node.call())
        await asyncio.sleep(0.01)
        node.executor.end()
        with pytest.raises(Ended):
            await calling

    asyncio.run(asyncio.wait_for(end(), 10))


def test_calls_of_a_process_that_was_killed_are_cancelled(tmp_path: Path) -> None:
    """Their connections ended with it, so nobody would be answered."""
    node = Node(tmp_path, answers=False)

    async def begin() -> None:
        calling = asyncio.create_task(node.call())
        while node.executor.open_calls == 0:
            await asyncio.sleep(0.01)
        calling.add_done_callback(lambda task: task.cancelled() or task.exception())

    run(node, begin)
    node.disk.commit(results={call_id(0, 0, 77): RESULT, call_id(1, 0, 77): RESULT, 5: RESULT})
    node.disk.close()
    after = Node(tmp_path)

    async def look() -> None:
        while not after.reports.records or after.left():
            await asyncio.sleep(0.01)

    run(after, look)
    (record,) = after.reports.records.values()
    assert record.failure == "cancelled"
    assert after.disk.result(5) == RESULT, "a workload's results stay"
    assert after.disk.result(call_id(1, 0, 77)) == RESULT, "another node's are not ours to drop"

"""Calls of a run: requests that are not of its workload, such as those of users at front doors.

They have a file of their own, with the columns of requests.parquet: the rows of that one are the
workload's, the same under every strategy of a seed, and everything that compares runs relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np

from controller.domain.requests import FAILURES, NOWHERE, RequestTable
from controller.domain.scenario import Scenario
from controller.domain.testbed import Testbed
from controller.results.summary import figures
from controller.results.tables import requests_parquet
from controller.testbed.node.records import Record

TIMES: Final = (
    "arrived_s", "started_s", "finished_s", "returned_s", "uplink_s", "queue_s", "inference_s",
    "downlink_s", "latency_s",
)  # fmt: skip


def calls_parquet(testbed: Testbed, calls: Sequence[Record]) -> bytes:
    """Return calls.parquet, by birth."""
    ordered = _by_birth(calls)
    ids = [one.request.request_id for one in ordered]
    return requests_parquet(_table(testbed, ordered), testbed, ids)


def call_figures(
    scenario: Scenario, workload: RequestTable, calls: Sequence[Record]
) -> dict[str, Any]:
    """Return the figures of the calls, and the fairness over workload and calls together.

    The summary's own figures stay those of the workload, so that runs with and without users can be
    compared; what the deciders saw was both.
    """
    table = _table(scenario.testbed, _by_birth(calls))
    both = _joined(workload, table)
    together = figures(scenario, both, np.full(len(both), True))
    return {
        "requests": len(table),
        **figures(scenario, table, np.full(len(table), True)),
        "with_workload": {name: together[name] for name in ("success_rate", "f_norm", "jain")},
    }


def _by_birth(calls: Sequence[Record]) -> list[Record]:
    return sorted(calls, key=lambda one: (one.request.born_s, one.request.request_id))


def _table(testbed: Testbed, calls: Sequence[Record]) -> RequestTable:
    nodes, lms = testbed.node_names, testbed.lm_names
    of = [one.request for one in calls]
    times = {
        name: np.array(
            [np.nan if getattr(one, name) is None else getattr(one, name) for one in calls],
            np.float64,
        )
        for name in TIMES
    }
    return RequestTable(
        lm=_ints([lms.index(one.lm) for one in of]),
        origin=_ints([nodes.index(one.origin) for one in of]),
        destination=_ints(
            [NOWHERE if one.destination is None else nodes.index(one.destination) for one in calls]
        ),
        prompts=_ints([one.prompts for one in of]),
        slot=_ints([one.slot for one in of]),
        born_s=np.array([one.born_s for one in of], np.float64),
        failure=_ints([FAILURES.index(one.failure or "") for one in calls]),
        attempts=_ints([one.attempts for one in calls]),
        recomputed_prompts=_ints([one.recomputed_prompts for one in calls]),
        **times,
    )


def _joined(one: RequestTable, other: RequestTable) -> RequestTable:
    parts = {
        part.name: np.concatenate([getattr(one, part.name), getattr(other, part.name)])
        for part in fields(RequestTable)
    }
    return RequestTable(**parts)


def _ints(values: Sequence[int]) -> Any:
    return np.array(values, np.int64)

"""The contract of every Node, over the real API server and scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from tests.contract import test_node as contract
from tests.contract.test_node import Bench
from tests.kubernetes.clockwork import NAMESPACE, ClockworkCluster, node_name
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import lay
from tests.kubernetes.loop import ClusterLoop
from tests.reference.worlds import requests

globals().update(
    {
        name: test
        for name, test in vars(contract).items()
        if name.startswith("test_") and "bench" in inspect.signature(test).parameters
    }
)


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> Iterator[ClusterLoop]:
    nodes = [
        replace(one, name=node_name(row))
        for row, one in enumerate(contract.scenario().testbed.nodes)
    ]
    lay(plane, nodes, NAMESPACE)
    made = ClusterLoop(plane)
    yield made
    made.close()


@pytest.fixture(params=[None, (1,)], ids=["cluster", "cluster-row"])
def bench(request: pytest.FixtureRequest, cluster: ClusterLoop) -> Iterator[Bench]:
    made = Bench(partial(ClockworkCluster, cluster), request.param, pods_only=True)
    made.build(contract.scenario(), requests(contract.scenario(), []))
    yield made
    assert isinstance(made.testbed, ClockworkCluster)
    made.testbed.close()

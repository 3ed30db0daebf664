"""The pod that a node service makes passes what the manifests put in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.domain.scenario import Scenario
from controller.domain.state import GPU
from controller.inputs.catalog import load_profile, load_testbed, template_dir
from controller.inputs.testbed import TestbedFile
from controller.testbed.kubernetes import pod
from controller.testbed.node.pods import Start
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.test_manifests import (
    LMS,
    VALUES,
    cluster,
    create,
    nodes,
    of_node,
    until,
)

__all__ = ["cluster", "nodes", "of_node"]


@pytest.fixture(scope="module")
def testbed() -> TestbedFile:
    return load_testbed("paper")


def test_it_is_admitted_placed_and_given_its_volumes(
    cluster: tuple[ControlPlane, Path],
    nodes: tuple[str, str],
    of_node: Path,
    testbed: TestbedFile,
) -> None:
    plane, _ = cluster
    scenario = Scenario(testbed.to_domain(), load_profile("a5000").to_domain())
    data = Path(VALUES.storage.prefix) / "data"
    (image,) = VALUES.lm_images
    for row, name in enumerate(scenario.testbed.node_names):
        if name not in nodes:
            continue
        values = pod.PodValues(template_dir(), {"emulated": image}, data, runtime_class="nvidia")
        run = data / "runs" / "0123456789ab"
        maker = pod.PodMaker(scenario, row, "0123456789ab", 1.0, run, values)
        plane.kubectl("create", "configmap", f"owner-{name}", "-n", LMS)
        uid = plane.get("configmap", f"owner-{name}", "-n", LMS)["metadata"]["uid"]
        arguments = ["--engine", "emulated", "--model", str(run / "gpus")]
        start, folder = Start(0, GPU, 0.0, 1, (0,)), run / "pods" / "LM1"
        made = maker.make(start, arguments, folder, pod.Owner(f"owner-{name}", uid))
        said = create(plane, made, of_node)
        if name != nodes[0]:
            assert "Forbidden" in said
            continue
        assert "created" in said, said
        assert "Warning" not in said
        query = ("pod", made["metadata"]["name"], "-n", LMS)
        until(lambda query=query: plane.get(*query)["status"]["phase"] == "Running")
        assert plane.get(*query)["spec"]["nodeName"] == name

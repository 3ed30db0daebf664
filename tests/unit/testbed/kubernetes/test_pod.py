"""The pod that Kubernetes is asked for, and what its documents mean."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU
from controller.inputs.catalog import load_profile, load_testbed, template_dir
from controller.testbed.kubernetes.pod import (
    LmPod,
    Owner,
    PodMaker,
    PodValues,
    never_fits,
    quantity,
    read_images,
    start_in,
    status_of,
)
from controller.testbed.node.pods import Start

DIGEST = "sha256:" + "1" * 64
IMAGES = {"emulated": f"registry/edgelm-emulated@{DIGEST}", "text-to-text": f"r/edgelm-lm@{DIGEST}"}
DATA = Path("/var/lib/edgelm/data")
RUN = DATA / "runs" / "0123456789ab.1"
FOLDER = RUN / "pods" / "LM1"
OWNER = Owner("run-0123456789ab-1", "uid-of-the-run")
TIMES = ["--engine", "emulated", "--model", f"{FOLDER}/times.json"]


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(load_testbed("paper").to_domain(), load_profile("a5000").to_domain())


def maker(scenario: Scenario, node: str = "vm3", **values: Any) -> PodMaker:
    row = scenario.testbed.node_names.index(node)
    made = replace(PodValues(template_dir(), IMAGES, DATA), **values)
    return PodMaker(scenario, row, "0123456789ab.1", 1.0, RUN, made)


def test_requests_are_limits_of_the_activation(scenario: Scenario) -> None:
    start = Start(0, CPU, 2.5, 0, ())
    pod = maker(scenario).make(start, TIMES, FOLDER, OWNER)
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "2500m", "memory": "2861Mi"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["image"] == IMAGES["emulated"]
    assert start_in(pod) == start


def test_a_gpu_pod_has_cores_too(scenario: Scenario) -> None:
    given = maker(scenario).make(Start(0, GPU, 1.0, 2, (0,)), TIMES, FOLDER, OWNER)
    lacking = maker(scenario).make(Start(0, GPU, 0.0, 2, (0,)), TIMES, FOLDER, OWNER)
    for pod in (given, lacking):  # the testbed file says one core
        asked = pod["spec"]["containers"][0]["resources"]["limits"]
        assert asked == {"cpu": "1000m", "memory": "2861Mi", "nvidia.com/gpu": "2"}


def test_the_scheduler_may_place_it_on_its_node_only(scenario: Scenario) -> None:
    spec = maker(scenario).make(Start(0, CPU, 1.0, 0, ()), TIMES, FOLDER, OWNER)["spec"]
    assert "nodeName" not in spec
    affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert affinity["nodeSelectorTerms"] == [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["vm3"]}]}
    ]


def test_it_may_do_little(scenario: Scenario) -> None:
    spec = maker(scenario).make(Start(0, CPU, 1.0, 0, ()), TIMES, FOLDER, OWNER)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["priorityClassName"] == "edgelm-lm"
    assert "runtimeClassName" not in spec


def test_it_goes_with_its_run(scenario: Scenario) -> None:
    meta = maker(scenario).make(Start(0, CPU, 1.0, 0, ()), TIMES, FOLDER, OWNER)["metadata"]
    assert meta["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": OWNER.name, "uid": OWNER.uid}
    ]
    assert meta["name"] == "lm1-0-vm3-0123456789ab-1"
    assert meta["labels"]["edgelm/run"] == "0123456789ab.1"
    assert meta["labels"]["edgelm/node"] == "vm3"
    assert meta["labels"]["edgelm/lm"] == "LM1"


def test_it_sees_its_own_folder_where_the_node_has_it(scenario: Scenario) -> None:
    spec = maker(scenario).make(Start(0, CPU, 1.0, 0, ()), TIMES, FOLDER, OWNER)["spec"]
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert mounts.keys() == {"/tmp", str(FOLDER), str(RUN / "gpus")}  # noqa: S108
    assert mounts[str(FOLDER)]["subPath"] == "runs/0123456789ab.1/pods/LM1"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "edgelm-data-vm3"}} in spec[
        "volumes"
    ]


def test_weights_are_mounted_to_read(scenario: Scenario) -> None:
    weights = Path("/var/lib/edgelm/weights")
    real = ["--engine", "text-to-text", "--model", str(weights / "gpt2")]
    made = maker(scenario, weights=weights, runtime_class="nvidia")
    spec = made.make(Start(0, GPU, 1.0, 1, (0,)), real, FOLDER, OWNER)["spec"]
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert mounts[str(weights / "gpt2")]["readOnly"] is True
    assert mounts[str(weights / "gpt2")]["subPath"] == "gpt2"
    assert str(RUN / "gpus") not in mounts
    assert spec["runtimeClassName"] == "nvidia"


def test_probes_are_told_apart(scenario: Scenario) -> None:
    spec = maker(scenario).make(Start(3, GPU, 1.0, 1, (0,)), TIMES, FOLDER, OWNER)["spec"]
    (container,) = spec["containers"]
    assert container["startupProbe"]["failureThreshold"] >= 300
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_grace_outlasts_the_longest_prompt(scenario: Scenario) -> None:
    """And the server's own limit comes before the kubelet's."""
    node = scenario.testbed.nodes[scenario.testbed.node_names.index("vm2")]
    profile = scenario.profile.lms["LM2"]
    for cores in (0.25, 1.0, 16.0):
        start = Start(1, CPU, cores, 0, ())
        spec = maker(scenario, "vm2").make(start, TIMES, FOLDER, OWNER)["spec"]
        args = spec["containers"][0]["args"]
        server_s = int(args[args.index("--grace-s") + 1])
        assert server_s >= profile.cpu[node.cpu].at(cores) * max(profile.cpu_batching.factors)
        assert spec["terminationGracePeriodSeconds"] == server_s + 10


def test_the_template_asks_for_fields_of_its_view() -> None:
    text = (template_dir() / "k8s" / "pod.yaml.j2").read_text()
    asked = set(re.findall(r"view\.(\w+)", text))
    assert asked == {one.name for one in fields(LmPod)}


def test_a_name_cannot_break_out_of_its_place(scenario: Scenario) -> None:
    odd = replace(scenario.testbed.lms[0], name='A"}, x: {b')
    testbed = replace(scenario.testbed, lms=(odd, *scenario.testbed.lms[1:]))
    profile = replace(
        scenario.profile, lms={**scenario.profile.lms, odd.name: scenario.profile.lms["LM1"]}
    )
    made = maker(replace(scenario, testbed=testbed, profile=profile))
    pod = made.make(Start(0, CPU, 1.0, 0, ()), TIMES, FOLDER, OWNER)
    assert pod["metadata"]["labels"]["edgelm/lm"] == odd.name


def test_an_engine_without_an_image(scenario: Scenario) -> None:
    with pytest.raises(
        InputError, match=r"--images: names no image .* add the line of edgelm-llama"
    ):
        maker(scenario).make(
            Start(0, CPU, 1.0, 0, ()), ["--engine", "llama", "--model", "x"], FOLDER, OWNER
        )


def test_images_as_the_build_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    path.write_text(f"h:5000/p/edgelm-emulated@{DIGEST}\nedgelm-lm@{DIGEST}\n")
    images = read_images(path)
    assert images["emulated"] == f"h:5000/p/edgelm-emulated@{DIGEST}"
    assert images["text-to-image"] == images["text-to-text"] == f"edgelm-lm@{DIGEST}"
    assert "llama" not in images


@pytest.mark.parametrize("line", ["edgelm-lm:latest", "edgelm-lm@sha256:12", f"nginx@{DIGEST}"])
def test_images_without_a_digest(tmp_path: Path, line: str) -> None:
    path = tmp_path / "images.txt"
    path.write_text(line)
    with pytest.raises(InputError, match="is no image of edgelm by its digest"):
        read_images(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("1500m", 1.5), ("2Gi", 2**31), ("1k", 1e3), ("0", 0), ("24Mi", 24 * 2**20)],
)
def test_quantities(text: str, number: float) -> None:
    assert quantity(text) == number


def test_what_can_never_fit_is_told_from_what_waits() -> None:
    node = {"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}}}
    assert never_fits({"cpu": "4", "memory": "8Gi"}, node) == ""
    assert "5 cpu, and the whole node has 4" in never_fits({"cpu": "5"}, node)
    assert "has 0" in never_fits({"nvidia.com/gpu": "1"}, {"status": {"allocatable": {}}})
    assert never_fits({"cpu": "1"}, None) == "the cluster has no node of this name"


def test_what_a_status_means() -> None:
    def pod(**status: Any) -> dict[str, Any]:
        return {"metadata": {}, "spec": {"nodeName": "vm3"}, "status": status}

    ready = [{"type": "Ready", "status": "True"}]
    assert status_of(pod(conditions=ready, podIP="10.1.2.3")).url == "http://10.1.2.3:8001"
    assert status_of(pod(conditions=ready, podIP="fd00::1")).url == "http://[fd00::1]:8001"
    assert status_of(pod(conditions=ready)).url == ""
    failed = status_of(pod(phase="Failed", reason="OutOfcpu", message="m", conditions=ready))
    assert (failed.failed, failed.url) == ("OutOfcpu: m", "")
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    assert status_of(pod(containerStatuses=[waiting])).fault == "ErrImagePull: not found"

"""Manifests are what an operator applies: every object is looked at as Kubernetes would read it."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from controller.bootstrap.manifests import render_manifests, write_manifests
from controller.domain.errors import InputError
from controller.inputs.catalog import load_testbed, locate, parse, read_yaml, template_dir
from controller.inputs.cluster import ClusterFile, load_cluster
from controller.inputs.testbed import TestbedFile
from controller.testbed.kubernetes import manifests, views

LM = f"localhost:5000/edgelm-emulated@sha256:{'0' * 64}"
TEMPLATES = template_dir() / "k8s"
Object = dict[str, Any]


def objects(testbed: str | TestbedFile = "paper", **values: Any) -> list[Object]:
    """All objects that are applied, in order."""
    values.setdefault("images", {"lms": [LM]})
    file = load_testbed(testbed) if isinstance(testbed, str) else testbed
    files = render_manifests(file, parse(ClusterFile, "values", values))
    return list(yaml.safe_load_all(manifests.applied(files)))


def one(found: list[Object], kind: str, name: str) -> Object:
    (match,) = [o for o in found if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return match


def of_kind(found: list[Object], kind: str) -> list[Object]:
    return [o for o in found if o["kind"] == kind]


def pod_templates(found: list[Object]) -> list[Object]:
    return [o["spec"]["template"] for o in found if o["kind"] in ("DaemonSet", "Deployment")]


def document() -> Any:
    return copy.deepcopy(read_yaml(locate("testbeds", "paper")))


@pytest.mark.parametrize("testbed", ["paper", "campus"])
def test_every_object_is_named_once_and_marked(testbed: str) -> None:
    found = objects(testbed)
    names = [(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in found]
    assert len(names) == len(set(names))
    assert [n for o, n in zip(found, names, strict=True)
            if o["metadata"]["labels"]["app.kubernetes.io/part-of"] != "edgelm"] == []  # fmt: skip
    assert [o["kind"] for o in found][:3] == ["Namespace"] * 3  # before what is in them


def test_no_secret_is_rendered() -> None:
    assert of_kind(objects(), "Secret") == []


def test_each_worker_has_a_node_service_and_two_volumes() -> None:
    found = objects()
    groups = [
        d for d in of_kind(found, "DaemonSet") if d["metadata"]["name"].startswith("edgelm-node")
    ]
    assert [nodes_of(d["spec"]["template"]) for d in groups] == [
        ["vm2"], ["vm3", "vm4", "vm5", "vm6", "vm7"],
    ]  # fmt: skip
    claims = {
        c["metadata"]["name"]: c["spec"]["volumeName"]
        for c in of_kind(found, "PersistentVolumeClaim")
    }
    volumes = {v["metadata"]["name"]: v["spec"] for v in of_kind(found, "PersistentVolume")}
    assert set(claims) == {
        f"edgelm-{what}-vm{k}" for what in ("data", "weights") for k in range(2, 8)
    }
    assert set(claims.values()) == set(volumes)
    spec = volumes[claims["edgelm-data-vm3"]]
    (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["vm3"]
    assert spec["local"]["path"] == "/var/lib/edgelm/data"
    assert volumes[claims["edgelm-weights-vm3"]]["accessModes"] == ["ReadOnlyMany"]


def nodes_of(template: Object) -> list[str]:
    required = template["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [name for term in terms for name in term["matchFields"][0]["values"]]


def test_a_container_sees_its_own_key_only() -> None:
    found = objects()
    keys = {}
    for template in pod_templates(found):
        for container in template["spec"]["containers"]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] == "keys":
                    keys[container["name"]] = mount.get("subPathExpr", mount.get("subPath"))
    assert keys == {
        "node": "$(NODE_NAME).json", "controller": "controller.json", "player": "player.json",
    }  # fmt: skip


def test_a_front_door_has_a_port_of_each_worker_its_users_file_and_its_networks() -> None:
    door = {"port": 8801, "users": ["10.20.0.0/16"]}
    found = objects(front_door=door)
    for group in ("edgelm-node", "edgelm-node-gpu"):
        pod = one(found, "DaemonSet", group)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {"--front-port=8801", "--users=/etc/edgelm/users/users.json"} <= set(
            container["args"]
        )
        assert {"name": "front", "containerPort": 8801, "hostPort": 8801} in container["ports"]
        (secret,) = [v["secret"] for v in pod["volumes"] if v["name"] == "users"]
        assert secret["secretName"] == "edgelm-users"
    rules = one(found, "NetworkPolicy", "node")["spec"]["ingress"]
    ports = [{"protocol": "TCP", "port": 8801}]
    assert {"from": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": ports} in rules
    assert "front" not in yaml.safe_dump_all(objects())


def test_a_front_door_needs_a_port_of_its_own() -> None:
    with pytest.raises(InputError, match="both 8701: give the front door a port of its own"):
        objects(front_door={"port": 8701})


def test_containers_are_confined() -> None:
    """Root is the container that makes folders, and what must talk to the driver or kubelet."""
    roots, writable = [], []
    for template in pod_templates(objects()):
        pod = template["spec"].get("securityContext", {})
        containers = template["spec"]["containers"] + template["spec"].get("initContainers", [])
        for container in containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            assert "privileged" not in security
            if not security.get("runAsNonRoot", pod.get("runAsNonRoot", False)):
                roots.append(container["name"])
            if not security.get("readOnlyRootFilesystem"):
                writable.append(container["name"])
    assert set(roots) == {"folders", "dcgm-exporter", "plugin"}
    assert set(writable) == {"dcgm-exporter", "plugin"}


def test_only_those_who_need_the_api_have_a_token() -> None:
    tokens = {
        t["metadata"]["labels"]["app.kubernetes.io/name"]
        for t in pod_templates(objects())
        if t["spec"].get("automountServiceAccountToken", True)
    }
    assert tokens == {"edgelm-node", "edgelm-controller"}


def test_hostpaths_are_those_that_the_policies_admit() -> None:
    found = objects()
    for owner in (o for o in found if o["kind"] in ("DaemonSet", "Deployment")):
        allowed = {
            "edgelm": {"/var/lib/edgelm"},
            "edgelm-system": {"/", "/var/lib/kubelet/device-plugins"},
        }[owner["metadata"]["namespace"]]
        for volume in owner["spec"]["template"]["spec"].get("volumes", []):
            if "hostPath" in volume:
                assert volume["hostPath"]["path"] in allowed


def test_options_of_the_services_exist() -> None:
    """But for those of pods, which come with their runtime."""
    coming = {"--kubernetes", "--namespace", "--images", "--runtime-class", "--resize"}
    for template in pod_templates(objects()):
        for container in template["spec"]["containers"]:
            if container.get("command", [""])[0] != "edgelm":
                continue
            command = container["command"][1]
            said = subprocess.run(
                [Path(sys.executable).parent / "edgelm", command, "--help"],
                capture_output=True, text=True, check=True, env={"COLUMNS": "200"},
            ).stdout  # fmt: skip
            options = {argument.split("=")[0] for argument in container["args"]}
            assert [o for o in options - coming if o not in said] == [], command


# GPU sharing

# From the plugin's own reader, api/config/v1 of 0.17: fields, types, and which of them it needs.
PLUGIN_SCHEMA: Object = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version"],
    "properties": {
        "version": {"const": "v1"},
        "flags": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "migStrategy": {"enum": ["none", "single", "mixed"]},
                "failOnInitError": {"type": "boolean"},
                "nvidiaDriverRoot": {"type": "string"},
                "gdsEnabled": {"type": "boolean"},
                "mofedEnabled": {"type": "boolean"},
                "plugin": {"type": "object"},
                "gfd": {"type": "object"},
            },
        },
        "sharing": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timeSlicing": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["resources"],
                    "properties": {
                        "renameByDefault": {"type": "boolean"},
                        "failRequestsGreaterThanOne": {"type": "boolean"},
                        "resources": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "replicas"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "rename": {"type": "string"},
                                    "devices": {},
                                    "replicas": {"type": "integer", "minimum": 2},
                                },
                            },
                        },
                    },
                }
            },
        },
    },
}


def slices(found: list[Object]) -> dict[str, int]:
    """Node -> slices, by the plugin's file for it."""
    files = one(found, "ConfigMap", "nvidia-device-plugin")["data"]
    configs = {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in files.items()}
    for config in configs.values():
        jsonschema.validate(config, PLUGIN_SCHEMA)
        assert config["sharing"]["timeSlicing"]["failRequestsGreaterThanOne"] is False
    plugin = one(found, "DaemonSet", "nvidia-device-plugin")["spec"]["template"]
    assert nodes_of(plugin) == list(configs)
    assert plugin["spec"]["containers"][0]["args"] == ["--config-file=/config/$(NODE_NAME).yaml"]
    return {
        node: config["sharing"]["timeSlicing"]["resources"][0]["replicas"]
        for node, config in configs.items()
    }


def test_the_plugins_files_are_what_the_plugin_reads() -> None:
    assert slices(objects("paper")) == dict.fromkeys(("vm3", "vm4", "vm5", "vm6", "vm7"), 2)
    assert slices(objects("campus")) == {"lab1": 3, "lab2": 3}


def test_a_node_has_slices_of_its_own() -> None:
    changed = document()
    changed["all"]["children"]["workers"]["hosts"]["vm7"]["edgelm_gpus"]["slices"] = 3
    found = slices(objects(parse(TestbedFile, "s", changed)))
    assert found == {"vm3": 2, "vm4": 2, "vm5": 2, "vm6": 2, "vm7": 3}


GOLDEN = Path(__file__).with_name("gpu-sharing.golden.yaml")


def test_two_slices_are_the_golden_file_and_three_move_its_checksum() -> None:
    values = ClusterFile()
    text = render_manifests(load_testbed("paper"), values)["gpu-sharing.yaml"]
    assert text == GOLDEN.read_text()
    changed = document()
    for host in changed["all"]["children"]["workers"]["hosts"].values():
        if "edgelm_gpus" in host:
            host["edgelm_gpus"]["slices"] = 3
    three = render_manifests(parse(TestbedFile, "s", changed), values)["gpu-sharing.yaml"]
    lines = list(zip(text.splitlines(), three.splitlines(), strict=True))
    differing = {
        line.strip().split(":")[0] for pair in lines for line in pair if pair[0] != pair[1]
    }
    assert differing == {"replicas", "edgelm/config"}  # the template, so that the plugin rolls


def test_a_testbed_without_gpus_has_no_plugin() -> None:
    changed = document()
    for host in changed["all"]["children"]["workers"]["hosts"].values():
        host.pop("edgelm_gpus", None)
    changed["all"]["vars"]["edgelm_lms"] = changed["all"]["vars"]["edgelm_lms"][:2]
    found = objects(parse(TestbedFile, "s", changed))
    names = {o["metadata"]["name"] for o in of_kind(found, "DaemonSet")}
    assert names == {"edgelm-node", "edgelm-images", "node-exporter"}
    assert "runtimeClassName" not in json.dumps(found)


# Values and bad input


def test_values_go_where_clusters_differ() -> None:
    digest = "@sha256:" + "a" * 64
    found = objects(
        registry="registry.test/lab",
        images={"lms": [f"edgelm-lm{digest}"], "services": f"edgelm-services{digest}"},
        pull_policy="Always", pull_secret="mine",  # noqa: S106
        runtime_class="", engines="emulated",
        node_port=9701, controller_url="http://vm1:8700", kubernetes="1.32",
        storage={"prefix": "/srv/edge/lm", "data_gb": 50},
        install={"device_plugin": False, "dcgm_exporter": False},
        network={"clients": ["10.1.0.0/16"], "egress": ["10.2.0.5/32"]},
    )  # fmt: skip
    text = json.dumps(found)
    node = one(found, "DaemonSet", "edgelm-node-gpu")["spec"]["template"]["spec"]
    assert node["imagePullSecrets"] == [{"name": "mine"}]
    assert node["containers"][0]["image"] == f"registry.test/lab/edgelm-services{digest}"
    assert one(found, "ConfigMap", "edgelm-images")["data"]["images.txt"] == (
        f"registry.test/lab/edgelm-lm{digest}\n"
    )
    arguments = node["containers"][0]["args"]
    assert "--port=9701" in arguments
    assert "--controller=http://vm1:8700" in arguments
    assert not any("--weights" in argument for argument in arguments)
    assert "runtimeClassName" not in text
    assert "device-plugin" not in str([o["metadata"]["name"] for o in found])
    assert "/var/lib/edgelm" not in text
    assert "resize" not in text  # 1.32 cannot
    assert "10.1.0.0/16" in text
    assert "10.2.0.5/32" in text
    volume = one(found, "PersistentVolume", "edgelm-data-vm3")["spec"]
    assert (volume["capacity"]["storage"], volume["local"]["path"]) == ("50G", "/srv/edge/lm/data")


def test_an_operators_prometheus_gets_its_objects() -> None:
    found = objects(monitoring={"kind": "operator", "namespace": "watch"})
    rule = one(found, "PrometheusRule", "edgelm")["spec"]["groups"][0]["rules"]
    assert {r["alert"] for r in rule} >= {"EdgelmPodPending", "EdgelmNodeLost"}
    assert len(of_kind(found, "PodMonitor")) == 4


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"registri": "x"}, ["registri", "is not a known field", "known are kubernetes, registry"]),
        ({"images": {"lm": "x"}}, ["images.lm", "is not a known field", "services, lms"]),
        (
            {"pull_policy": "Sometimes"},
            ["pull_policy", "Sometimes", "Always, IfNotPresent or Never"],
        ),
        ({"node_port": 70000}, ["node_port", "70000", "a port, 1 to 65535"]),
        ({"storage": {"prefix": "/"}}, ["storage.prefix", "'/'", "two parts or more"]),
        ({"storage": {"prefix": "/var/../etc"}}, ["storage.prefix", "/var/../etc"]),
        ({"images": {"lms": ["edgelm-lm:latest"]}}, ["images.lms[0]", "@sha256:DIGEST"]),
        ({"kubernetes": 1.36}, ["kubernetes", "1.36", "in quotes"]),
        ({"kubernetes": "1.30"}, ["kubernetes 1.30 is too old", "since 1.32", "upgrade"]),
        ({"controller_url": "vm1:8700"}, ["controller_url", "http://HOST:8700"]),
        ({"network": {"clients": ["everyone"]}}, ["network.clients[0]", "everyone", "10.0.0.0/16"]),
        ([], ["values.yaml"]),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(
    tmp_path: Path, values: Any, said: list[str]
) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps(values) if values else "- 1")
    with pytest.raises(InputError) as error:
        load_cluster(path)
    assert [part for part in [str(path), *said] if part not in str(error.value)] == [], error.value


def test_an_empty_file_and_none_have_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_cluster(None) == load_cluster(tmp_path / "empty.yaml") == ClusterFile()


def test_daemons_that_ask_for_more_than_is_reserved_are_refused_with_their_sum() -> None:
    with pytest.raises(InputError) as error:
        objects(requests={"node": {"cores": 2, "ram_gb": 0.4}})
    text = str(error.value)
    assert "vm2.edgelm_reserved.cores: is less than the 2.06 that daemons request" in text
    assert "node 2 + images 0.01" in text
    assert "vm7.edgelm_reserved.cores: is less than the 2.21" in text
    assert "(got 1.0); reserve more, or request less" in text


def test_a_control_node_that_cannot_hold_the_controller_is_refused() -> None:
    with pytest.raises(InputError, match=r"head\.edgelm_cores: is less than the 1\.6 .*controller"):
        objects("campus", requests={"controller": {"cores": 1.5, "ram_gb": 0.5}})


@pytest.mark.parametrize("testbed", ["paper", "campus"])
def test_requests_of_daemons_are_within_what_is_reserved(testbed: str) -> None:
    """Counted again from the objects, as the scheduler will."""
    found = objects(testbed)
    file = load_testbed(testbed)
    hosts = {**file.all.children.workers.hosts, **file.all.children.control.hosts}
    sums = dict.fromkeys(hosts, (0.0, 0.0))
    for owner in of_kind(found, "DaemonSet"):
        template = owner["spec"]["template"]
        for node in nodes_of(template):
            asked = pod_request(template["spec"])
            sums[node] = sums[node][0] + asked[0], sums[node][1] + asked[1]
    for name, (cores, ram_gb) in sums.items():
        reserved = hosts[name].reserved
        assert 0 < cores <= reserved.cores
        assert 0 < ram_gb <= reserved.ram_gb


def pod_request(spec: Object) -> tuple[float, float]:
    def amounts(container: Object) -> tuple[float, float]:
        asked = container["resources"]["requests"]
        units = {"M": 1e-3, "Mi": 2**20 / 1e9}
        number, unit = re.fullmatch(r"(\d+)(\w+)", asked["memory"]).groups()  # type: ignore[union-attr]
        return int(asked["cpu"].removesuffix("m")) / 1000, int(number) * units[unit]

    running = [amounts(c) for c in spec["containers"]]
    first = [amounts(c) for c in spec.get("initContainers", [])]
    return tuple(  # type: ignore[return-value]
        max(sum(c[k] for c in running), *(c[k] for c in first), 0.0) for k in (0, 1)
    )


def test_names_that_kubernetes_refuses_are_refused() -> None:
    changed = document()
    hosts = changed["all"]["children"]["workers"]["hosts"]
    hosts["VM_9"] = hosts.pop("vm7")
    with pytest.raises(InputError, match=r"VM_9: is no name of a Kubernetes node; use lower-case"):
        objects(parse(TestbedFile, "s", changed))


def test_files_are_written_once_and_again_but_not_over_others(tmp_path: Path) -> None:
    files = render_manifests(load_testbed("paper"), ClusterFile())
    for _ in range(2):
        write_manifests(files, tmp_path / "mine")
    assert {str(p.relative_to(tmp_path / "mine")) for p in (tmp_path / "mine").rglob("*.*")} == set(
        files
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "kustomization.yaml").write_text("resources:\n  - web.yaml\n")
    with pytest.raises(InputError, match="kustomization that is not edgelm's"):
        write_manifests(files, other)


# Templates


def test_variables_of_a_template_are_fields_of_its_view() -> None:
    source = Path(views.__file__).read_text()
    found: dict[str, type] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("View"):
            for name in re.findall(r"[\w-]+\.yaml", ast.get_docstring(node) or ""):
                found[name] = getattr(views, node.name)
    ours = {path.name.removesuffix(".j2") for path in TEMPLATES.glob("*.yaml.j2")} - {"pod.yaml"}
    assert set(found) == ours
    for name, view in found.items():
        used = set(re.findall(r"view\.(\w+)", (TEMPLATES / f"{name}.j2").read_text()))
        assert used <= set(dir(view)) | {field.name for field in fields(view)}, name


def test_rendering_imports_no_kubernetes_client() -> None:
    code = (
        "import sys; from controller.bootstrap.manifests import render_manifests as r;"
        "from controller.inputs.catalog import load_testbed as t;"
        "from controller.inputs.cluster import ClusterFile as c; r(t('paper'), c());"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Testbed files are Ansible inventories that say what the paper's Table II says."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from controller.domain.errors import InputError
from controller.inputs.catalog import load_testbed, locate, parse, read_yaml, scaled
from controller.inputs.documents import read_yaml_text
from controller.inputs.testbed import TestbedFile


@pytest.fixture
def document() -> Any:
    return copy.deepcopy(read_yaml(locate("testbeds", "paper")))


@pytest.fixture
def workers(document: Any) -> Any:
    return document["all"]["children"]["workers"]["hosts"]


def test_paper_is_table_two() -> None:
    file = load_testbed("paper")
    testbed, hosts = file.to_domain(), file.all.children.workers.hosts
    machines = [(n.name, n.cpu, hosts[n.name].cores, hosts[n.name].ram_gb) for n in testbed.nodes]
    gpus = [(n.gpu, n.gpus, n.gpus * n.vram_gb, n.vgpus) for n in testbed.nodes]
    rows = [(*machine, *gpu) for machine, gpu in zip(machines, gpus, strict=True)]
    epyc, a5000 = "AMD EPYC 7453", "NVIDIA A5000"
    assert rows == [
        ("vm2", epyc, 24, 32, "", 0, 0, 0),
        *((f"vm{k}", epyc, 16, 24, a5000, 1, 24, 2) for k in range(3, 7)),
        ("vm7", epyc, 16, 24, a5000, 2, 48, 4),
    ]
    assert len({node.site for node in testbed.nodes}) == 3
    assert testbed.network.site_bandwidth_gbps == testbed.network.metro_bandwidth_gbps == 100


def test_paper_has_the_papers_lms() -> None:
    testbed = load_testbed("paper")
    lms = testbed.to_domain().lms
    assert [lm.name for lm in lms] == ["LM1", "LM2", "LM3", "LM4"]
    assert [lm.ram_gb for lm in lms] == [3, 9, 2.5, 3.5]
    assert [lm.gpu_only for lm in lms] == [False, False, True, True]
    memory = [lm.memory for lm in testbed.all.vars.lms]
    assert [m.min_ram_gb for m in memory] == [1.2, 6.5, 0.5, 1.6]
    assert [m.storage_gb for m in memory] == [7.5, 13, 10, 17.5]


def test_nodes_are_their_machines_less_what_is_reserved(workers: Any, document: Any) -> None:
    nodes = {node.name: node for node in load_testbed("paper").to_domain().nodes}
    assert [(n.cores, n.ram_gb) for n in (nodes["vm2"], nodes["vm7"])] == [(23, 29), (15, 21)]
    workers["vm7"]["edgelm_reserved"] = {
        "source": "estimated", "how": "a test", "cores": 2.5, "ram_gb": 4
    }  # fmt: skip
    less = parse(TestbedFile, "s", document).to_domain().nodes[-1]
    assert (less.name, less.cores, less.ram_gb) == ("vm7", 13.5, 20)


@pytest.mark.parametrize(("name", "size"), [("cores", 16), ("ram_gb", 24)])
def test_a_machine_reserved_whole_is_refused(
    document: Any, workers: Any, name: str, size: float
) -> None:
    workers["vm3"]["edgelm_reserved"] = {**workers["vm3"]["edgelm_reserved"], name: size}
    with pytest.raises(
        InputError, match=rf"vm3: edgelm_reserved\.{name} is {size} of .*reserve less"
    ):
        parse(TestbedFile, "s", document)


@pytest.mark.parametrize("name", ["edgelm_disk_gb", "edgelm_reserved"])
def test_every_machine_says_its_disk_and_what_is_reserved(
    document: Any, workers: Any, name: str
) -> None:
    del workers["vm3"][name]
    with pytest.raises(InputError, match=rf"vm3\.{name}: is missing"):
        parse(TestbedFile, "s", document)


@pytest.mark.parametrize("testbed", ["paper", "campus"])
def test_all_lms_of_a_gpu_node_still_fit_beside_the_system(testbed: str) -> None:
    """What system and daemons keep costs no shipped testbed a combination of LMs."""
    found = load_testbed(testbed).to_domain()
    for node in found.nodes:
        lms = [lm for lm in found.lms if node.gpus or not lm.gpu_only]
        assert sum(lm.ram_gb for lm in lms) <= node.ram_gb


def test_control_node_serves_nothing() -> None:
    testbed = load_testbed("paper")
    assert testbed.all.children.control.hosts["vm1"].cores == 8
    assert "vm1" not in testbed.to_domain().node_names


def test_content_survives_json_whatever_the_order_of_its_keys() -> None:
    testbed = load_testbed("paper")
    text = json.dumps(testbed.model_dump(mode="json"), sort_keys=True)
    again = parse(TestbedFile, "again", json.loads(text))
    assert again == testbed
    assert again.to_domain() == testbed.to_domain()


def test_rows_follow_the_numbers_in_the_names(document: Any, workers: Any) -> None:
    worker = workers["vm3"]
    workers.update({f"vm{k}": worker for k in (30, 12, 100)})
    names = parse(TestbedFile, "s", document).to_domain().node_names
    assert names == ("vm2", "vm3", "vm4", "vm5", "vm6", "vm7", "vm12", "vm30", "vm100")


def test_ansibles_own_variables_are_no_part_of_the_testbed(document: Any, workers: Any) -> None:
    workers["vm3"]["ansible_host"] = "192.0.2.3"
    document["all"]["vars"]["ansible_user"] = "debian"
    assert parse(TestbedFile, "s", document) == load_testbed("paper")


def test_file_is_frozen() -> None:
    testbed = load_testbed("paper")
    with pytest.raises(ValueError, match="frozen"):
        testbed.all.vars.network.site.latency_s = 0.0  # type: ignore[misc]


def test_a_host_in_both_groups_is_refused(document: Any, workers: Any) -> None:
    workers["vm1"] = workers["vm3"]
    with pytest.raises(InputError, match=r"children: vm1 is in group control and in group workers"):
        parse(TestbedFile, "s", document)


def test_an_lm_given_twice_is_refused(document: Any) -> None:
    document["all"]["vars"]["edgelm_lms"][1]["name"] = "LM1"
    with pytest.raises(InputError, match=r"LM1 occurs more than once"):
        parse(TestbedFile, "s", document)


@pytest.mark.parametrize("modality", ["text-to-image", "audio-to-text", "image-text-to-text"])
def test_an_lm_of_any_modality_is_data(document: Any, modality: str) -> None:
    document["all"]["vars"]["edgelm_lms"][1]["modality"] = modality
    assert parse(TestbedFile, "s", document).to_domain().lms[1].modality == modality


@pytest.mark.parametrize("modality", ["", "audio", "to-text", "Audio-to-text", "audio2text"])
def test_a_wrong_modality_is_refused_with_its_form(document: Any, modality: str) -> None:
    document["all"]["vars"]["edgelm_lms"][1]["modality"] = modality
    problem = rf"edgelm_lms\[1\]\.modality: is malformed \(got '{modality}'\); INPUT-to-OUTPUT"
    with pytest.raises(InputError, match=problem):
        parse(TestbedFile, "s", document)


def test_a_node_given_twice_is_refused() -> None:
    text = locate("testbeds", "paper").read_text().replace("        vm4:\n", "        vm3:\n")
    with pytest.raises(InputError, match="duplicate key 'vm3'"):
        read_yaml_text("s", text)


@pytest.mark.parametrize("name", ["", "-vm", "vm 3", "vm/3", "vm[3:9]", "v" * 64, "vm3\n", "é", 3])
def test_a_wrong_node_name_is_refused(document: Any, workers: Any, name: object) -> None:
    workers[name] = workers.pop("vm3")
    with pytest.raises(InputError, match=r"workers\.hosts"):
        parse(TestbedFile, "s", document)


def test_there_is_one_control_node(document: Any) -> None:
    hosts = document["all"]["children"]["control"]["hosts"]
    hosts["vm0"] = hosts["vm1"]
    with pytest.raises(InputError, match=r"control\.hosts: .*at most 1"):
        parse(TestbedFile, "s", document)


def test_a_half_described_gpu_is_refused(document: Any, workers: Any) -> None:
    del workers["vm3"]["edgelm_gpus"]["vram_gb"]
    with pytest.raises(InputError, match=r"vm3\.edgelm_gpus\.vram_gb: is missing; memory of one"):
        parse(TestbedFile, "s", document)


@pytest.mark.parametrize("nodes", [6, 60, 600])
def test_scaled_repeats_the_workers(nodes: int) -> None:
    paper = load_testbed("paper")
    large = scaled(paper, nodes).to_domain()
    assert large.name == f"paper-{nodes}"
    assert len(set(large.node_names)) == nodes
    base = paper.to_domain()
    assert sum(n.gpus for n in large.nodes) == nodes // 6 * sum(n.gpus for n in base.nodes)
    assert large.lms == base.lms
    assert set(base.node_names) <= set(large.node_names)


def test_scaled_is_a_testbed_file_like_any_other() -> None:
    large = scaled(load_testbed("paper"), 13)
    assert parse(TestbedFile, "again", large.model_dump(mode="json")) == large
    assert large.to_domain().node_names[:3] == ("vm2", "vm2-1", "vm2-2")


def test_scaled_needs_a_worker() -> None:
    with pytest.raises(InputError, match=r"nodes: .*\(got 0\); 1 or more"):
        scaled(load_testbed("paper"), 0)


def test_scaled_does_not_swallow_a_name(document: Any, workers: Any) -> None:
    workers["vm2-1"] = workers["vm2"]
    with pytest.raises(InputError, match="vm2-1"):
        scaled(parse(TestbedFile, "s", document), 20)

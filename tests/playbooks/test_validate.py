"""Bad input of a bring-up on machines that exist: this machine stands for all; nothing is changed.

`EDGELM_PLAYBOOKS=1 pytest tests/playbooks/test_validate.py` (some seconds each; `make e2e` does).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PLAYBOOKS: Final = ROOT / "playbooks"
ANSIBLE: Final = ROOT / ".venv-ansible" / "bin" / "ansible-playbook"

pytestmark = pytest.mark.skipif(
    not (os.environ.get("EDGELM_PLAYBOOKS") and ANSIBLE.exists()),
    reason="asked for by EDGELM_PLAYBOOKS=1, after make ansible-setup",
)


@pytest.fixture
def testbed(tmp_path: Path) -> dict[str, Any]:
    """Return the inventory of a testbed as large as this machine; its file lies beside it."""
    document = yaml.safe_load((ROOT / "inventory" / "campus.yaml").read_text())
    children = document["all"]["children"]
    for group in ("control", "workers"):
        for host in children[group]["hosts"].values():
            host |= {"edgelm_cores": 1, "edgelm_ram_gb": 4, "edgelm_disk_gb": 120}
            host["edgelm_reserved"]["ram_gb"] = 3.5 if group == "workers" else 9
    file = tmp_path / "testbed.yaml"
    file.write_text(yaml.safe_dump(document))
    size = os.statvfs("/var/lib")
    if size.f_bavail * size.f_frsize < 12e9 or size.f_blocks * size.f_frsize < 110e9:
        pytest.skip("wants a disk of 110 GB with 12 free")
    hosts = {
        name: {"edgelm_machine": name, "ansible_host": "127.0.0.1", **said}
        for group in ("control", "workers")
        for name, said in children[group]["hosts"].items()
    }
    groups: dict[str, Any] = {
        "control_plane": {"hosts": {name: {} for name in children["control"]["hosts"]}},
        "worker": {"hosts": {name: {} for name in children["workers"]["hosts"]}},
    }
    return {
        "all": {
            "vars": {
                "ansible_connection": "local",
                "edgelm_testbed": "campus",
                "edgelm_testbed_file": str(file),
                "edgelm_state_dir": str(tmp_path),
            },
            "hosts": hosts,
            "children": {
                "cluster": {"children": groups},
                "gpu": {"hosts": {name: {} for name, one in hosts.items() if "edgelm_gpus" in one}},
            },
        }
    }


def test_a_good_testbed_is_accepted_and_nothing_is_changed(
    testbed: dict[str, Any], tmp_path: Path
) -> None:
    code, said = _validate(testbed, tmp_path)
    assert code == 0, said
    assert "changed=0" in said
    assert "changed=1" not in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"validate_cpuinfo": "CPUINFO"}, "the processor lacks avx -> choose a flavour or image"),
        ({"validate_distributions": [{"name": "Ubuntu", "version": "22.04"}]},
         "-> install Ubuntu 22.04"),
        ({"validate_free_gb": 1_000_000},
         "images twice 96.0 (LM1 7.5, LM2 13, LM3 10, LM4 17.5), system 8, logs 2"),
        ({"validate_ram_gb": {"control_plane": [], "worker": [{"what": "system", "gb": 3},
                                                            {"what": "MongoDB", "gb": 2}]}},
         "reserves 3.5 GB of RAM, its system and daemons need 5.0: system 3, MongoDB 2"),
        ({"validate_clock_s": -1}, "its clock is off by more than -1 s"),
    ],
)  # fmt: skip
def test_bad_machines_are_refused_with_what_to_do(
    testbed: dict[str, Any], tmp_path: Path, variables: dict[str, Any], words: str
) -> None:
    without = tmp_path / "cpuinfo"
    without.write_text("flags\t\t: fpu sse sse2\n")
    given = json.loads(json.dumps(variables).replace("CPUINFO", str(without)))
    code, said = _validate(testbed, tmp_path, given)
    assert code == 2
    assert words in said


def test_an_inventory_edited_by_hand_is_refused(testbed: dict[str, Any], tmp_path: Path) -> None:
    testbed["all"]["hosts"]["lab1"]["edgelm_cores"] = 64
    code, said = _validate(testbed, tmp_path)
    assert code == 2
    assert "lab1 differs from lab1 in" in said
    assert "-> change the testbed file" in said


def test_a_machine_that_the_inventory_lacks_is_named(
    testbed: dict[str, Any], tmp_path: Path
) -> None:
    del testbed["all"]["hosts"]["lab2"]
    del testbed["all"]["children"]["cluster"]["children"]["worker"]["hosts"]["lab2"]
    del testbed["all"]["children"]["gpu"]["hosts"]["lab2"]
    code, said = _validate(testbed, tmp_path)
    assert code == 2
    assert "the inventory has head, lab1, office1" in said


def _validate(
    inventory: dict[str, Any], folder: Path, variables: dict[str, Any] | None = None
) -> tuple[int, str]:
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [ANSIBLE, "-i", path, "validate.yml", "-e", json.dumps(variables or {})],
        cwd=PLAYBOOKS, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "NO_COLOR": "1",
             "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"},
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())

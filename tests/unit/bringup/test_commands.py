"""`edgelm up` as its users meet it, up to where it would begin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.bootstrap.bringup import survey
from controller.bootstrap.teardown import removal_variables, survey_removal
from controller.bringup.order import Order
from controller.bringup.state import Folder, State
from controller.domain.errors import InputError
from tests.unit.bringup.grounds import paper


def edgelm(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "XDG_STATE_HOME": str(folder)},
    )  # fmt: skip


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.yaml"
    named = {one.name: {"ansible_host": f"10.1.0.{k}"} for k, one in enumerate(paper().machines)}
    path.write_text(yaml.safe_dump({"hosts": named}))
    return path


def test_a_plan_of_given_hosts_changes_nothing(tmp_path: Path, hosts: Path) -> None:
    state = tmp_path / "state"
    done = edgelm("up", "--hosts", hosts, "--plan", "--json", folder=state)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["hosts"] == [f"vm{k}" for k in range(1, 8)]
    assert "provision" not in plan["minutes"]
    assert not state.exists()
    shown = edgelm("up", "--hosts", hosts, "--plan", folder=state)
    assert "testbed paper on 7 hosts" in shown.stdout
    assert str(state / "edgelm" / "testbeds" / "paper") in shown.stdout


def test_without_a_terminal_nothing_is_asked(tmp_path: Path, hosts: Path) -> None:
    done = edgelm("up", "--hosts", hosts, folder=tmp_path / "state")
    assert done.returncode == 2
    assert "cannot ask: there is no terminal" in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hosts": None}, "takes --cloud NAME or --hosts FILE"),
        ({"cloud": "a"}, "takes --cloud NAME or --hosts FILE"),
        ({"first": "hostss"}, "--from: is no phase (got 'hostss'); choose from drain, provision"),
        ({"first": "roles", "tags": ("base",), "last": "reach"}, "--until: comes before --from"),
        ({"files": (Path("none.yaml"),)}, "-e: is no file (got 'none.yaml')"),
        ({"vault_password_file": Path("none")}, "--vault-password-file: is no file"),
        ({"testbed": "campus"}, "is no machine of the testbed file"),
        ({"testbed": "papre"}, "no shipped testbed has this name"),
        ({"check": True, "first": "provision"}, "--check: works on machines that exist"),
        ({"hosts": Path("nowhere.yaml")}, "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, hosts: Path, changes: dict[str, Any], message: str
) -> None:
    order = Order("paper", hosts=hosts, state=tmp_path / "state")
    with pytest.raises(InputError) as caught:
        survey(replace(order, **changes))
    assert message in str(caught.value)
    assert not (tmp_path / "state").exists()


def test_a_folder_belongs_to_one_testbed(tmp_path: Path, hosts: Path) -> None:
    Folder(tmp_path).write(State("other", "hosts"))
    with pytest.raises(InputError, match="is the folder of a bring-up of testbed other, not paper"):
        survey(Order("paper", hosts=hosts, state=tmp_path))
    Folder(tmp_path).write(State("paper", "openstack"))
    with pytest.raises(InputError, match="of kind openstack, not hosts"):
        survey(Order("paper", hosts=hosts, state=tmp_path))


def test_nothing_is_taken_down_that_nobody_brought_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finds no bring-up in"):
        survey_removal(Order("paper", state=tmp_path), keep_data=False)


def test_a_part_of_a_testbed_is_never_taken_for_all_of_it() -> None:
    """Without names, and without the word for everything, a playbook removes nothing."""
    kept = removal_variables(paper(), "member", (), [])
    assert (kept["edgelm_everything"], kept["edgelm_gone"]) == (False, [])
    assert removal_variables(paper(), "member", (), None)["edgelm_everything"] is True


def test_what_is_not_installed_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    if find_spec("ansible_runner"):
        pytest.skip("Ansible is installed beside this Python")
    order = Order("paper", cloud="member", state=tmp_path / "state")
    with pytest.raises(InputError) as caught:
        survey(order)
    assert "needs ansible, ansible_runner, openstack" in str(caught.value)
    assert "pip install 'edgelm[bringup]'" in str(caught.value)

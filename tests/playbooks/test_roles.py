"""Roles by their files alone: arguments, order of plays, templates against golden files."""

from __future__ import annotations

import difflib
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PLAYBOOKS: Final = ROOT / "playbooks"
ROLES: Final = sorted(path.name for path in (PLAYBOOKS / "roles").iterdir() if path.is_dir())
ANSIBLE: Final = ROOT / ".venv-ansible" / "bin"
GOLDEN: Final = HERE / "golden"

ansible = pytest.mark.skipif(
    not (ANSIBLE / "ansible-playbook").exists(), reason="no Ansible: make ansible-setup"
)


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("role", ROLES)
def test_each_argument_of_a_role_has_a_default_and_a_description(role: str) -> None:
    folder = PLAYBOOKS / "roles" / role
    defaults = _read(folder / "defaults" / "main.yml") or {}
    options = _read(folder / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(defaults) == set(options)
    assert all(one["description"].endswith(".") for one in options.values())


@pytest.mark.parametrize("role", ROLES)
def test_task_files_are_short_enough_to_read(role: str) -> None:
    for path in (PLAYBOOKS / "roles" / role / "tasks").glob("*.yml"):
        assert len(path.read_text().splitlines()) <= 110, path


def test_the_site_only_imports_and_validates_first() -> None:
    site = _read(PLAYBOOKS / "site.yml")
    assert all("ansible.builtin.import_playbook" in play for play in site)
    assert site[0]["ansible.builtin.import_playbook"] == "validate.yml"


@pytest.mark.parametrize("role", ROLES)
def test_what_carries_a_secret_is_not_logged(role: str) -> None:
    """Tasks that name a password, a token or a key file have no_log."""
    marks = ("password", "token create", "'operator.json'", "src: '{{ edgelm_state_dir }}/keys",
             "secrets.yaml", "users.js", "database.sql")  # fmt: skip
    for path in (PLAYBOOKS / "roles" / role / "tasks").glob("*.yml"):
        for task in _tasks(_read(path)):
            text = yaml.safe_dump({name: value for name, value in task.items() if name != "name"})
            module = next(name for name in task if "." in name)
            if any(mark in text for mark in marks) and module not in QUIET:
                assert task.get("no_log") is True, f"{path}: {task['name']}"


QUIET: Final = ("ansible.builtin.assert", "ansible.builtin.debug", "ansible.builtin.include_tasks")


def _tasks(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for task in given for one in (_tasks(task["block"]) if "block" in task else [task])]


@ansible
def test_playbooks_are_well_formed() -> None:
    _play("site.yml", "reset.yml", "remove.yml", "--syntax-check")


@ansible
def test_templates_are_what_they_were(tmp_path: Path) -> None:
    """`EDGELM_GOLDEN=1 pytest tests/playbooks/test_roles.py` writes them anew."""
    _play(HERE / "render.yml", "-e", f"edgelm_out={tmp_path}")
    if os.environ.get("EDGELM_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for path in tmp_path.iterdir():
            (GOLDEN / path.name).write_text(path.read_text())
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in GOLDEN.iterdir()}
    for name in sorted(names):
        was, made = (GOLDEN / name).read_text(), (tmp_path / name).read_text()
        assert was == made, "".join(
            difflib.unified_diff(was.splitlines(True), made.splitlines(True))
        )


def _play(*arguments: str | Path) -> str:
    done = subprocess.run(
        [ANSIBLE / "ansible-playbook", "-i", HERE / "inventory.yml", *arguments],
        cwd=PLAYBOOKS, text=True, capture_output=True, check=False, timeout=120,
        env={**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout

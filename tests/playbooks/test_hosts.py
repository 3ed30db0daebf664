"""A testbed that `edgelm up` has brought up on real machines, held to what the docs say of it.

`EDGELM_STATE=FOLDER pytest tests/playbooks/test_hosts.py`: FOLDER is that of the bring-up.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PLAYBOOKS: Final = ROOT / "playbooks"
BIN: Final = ROOT / ".venv-ansible" / "bin"
STATE: Final = os.environ.get("EDGELM_STATE", "")
LOOPBACK: Final = ("127.", "[::1]")

pytestmark = pytest.mark.skipif(
    not STATE, reason="EDGELM_STATE names the folder of a bring-up: edgelm up --hosts FILE"
)


def test_what_listens_is_in_the_table_of_the_docs() -> None:
    """Every port that a machine offers to others stands in "Who can reach what"."""
    text = (ROOT / "docs" / "testbed.md").read_text().partition("### Who can reach what")[2]
    rows = re.findall(r"^\| ([0-9, ]+) \|", text.partition("\n## ")[0], re.MULTILINE)
    known = {int(port) for row in rows for port in row.split(",")}
    found = _on_all("ss -Hltn")
    assert found
    for host, lines in found.items():
        addresses = [line.split()[3] for line in lines.splitlines()]
        open_ports = {
            int(one.rpartition(":")[2]) for one in addresses if not one.startswith(LOOPBACK)
        }
        assert open_ports - known == set(), f"{host} offers ports that the docs do not name"


def test_the_keys_of_a_machine_are_its_own_alone() -> None:
    """No secret of the operator lies on a machine in a file that others read."""
    found = _on_all("find /etc/edgelm /etc/kubernetes -type f -name *.key -perm /o+r")
    assert {host: text for host, text in found.items() if text.strip()} == {}


def _on_all(command: str) -> dict[str, str]:
    """Return what a command prints, by host."""
    done = subprocess.run(
        [BIN / "ansible", "-i", Path(STATE) / "inventory" / "hosts.yml", "cluster", "-m",
         "ansible.builtin.command", "-a", command],
        cwd=PLAYBOOKS, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "NO_COLOR": "1"},
    )  # fmt: skip
    parts = re.split(r"^(\S+) \| (?:CHANGED|SUCCESS|FAILED)[^\n]*>>\n", done.stdout, flags=re.M)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(parts[1::2], parts[2::2], strict=True))

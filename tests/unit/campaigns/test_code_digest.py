"""The digest that tells edited code: whose it is, and what changes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.campaigns.code_digest import code_digest

CHECKOUT = Path(__file__).parents[3]
PRINT = """
from controller.campaigns.code_digest import code_digest
print(*map(code_digest, ("RL", "RF", "MA")))
"""


def digests(checkout: Path) -> list[str]:
    """The digests of RL, RF and MA by the code in ``checkout``."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code and what it needs, to edit."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("controller", "templates", "inventory"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("controller/policies/lyapunov.py", [True, False, False]),
        ("controller/agents/planner.py", [False, False, True]),
        ("templates/prompts/planner/system.j2", [False, False, True]),
        ("controller/twin/cluster.py", [True, True, True]),
        ("controller/report/page.py", [False, False, False]),
    ],
)
def test_an_edit_changes_the_strategies_that_it_decides(
    copy: Path, file: str, changed: list[bool]
) -> None:
    before = digests(copy)
    path = copy / file
    path.write_text(path.read_text() + "\n")
    assert [a != b for a, b in zip(before, digests(copy), strict=True)] == changed


def test_a_new_strategy_changes_no_other(copy: Path) -> None:
    before = digests(copy)
    path = copy / "controller/strategies.py"
    path.write_text(
        path.read_text() + '\nSTRATEGIES["XX"] = Recipe("open", "local", "full", "x")\n'
    )
    assert digests(copy) == before


def test_every_part_counts() -> None:
    """RL and AL share deployer and planner, RL and RF scheduler and planner."""
    assert len({code_digest(name) for name in ("RR", "RL", "AL", "RF", "LL")}) == 5

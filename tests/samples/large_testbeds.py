"""Testbeds of many nodes as files: the paper's workers repeated, alike or each of another size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from controller.inputs.catalog import load_testbed
from controller.inputs.testbed import scaled

CORES: Final = (16, 24, 12, 32, 20)
RAM_GB: Final = (24, 32, 48)


def write_testbed(path: Path, nodes: int, *, mixed: bool = False) -> Path:
    """Write the paper's testbed with so many workers; ``mixed``: cores and memory differ."""
    document: dict[str, Any] = scaled(load_testbed("paper"), nodes).model_dump(mode="json")
    if mixed:
        for k, host in enumerate(document["all"]["children"]["workers"]["hosts"].values()):
            host["edgelm_cores"] = CORES[k % len(CORES)]
            host["edgelm_ram_gb"] = RAM_GB[k % len(RAM_GB)]
    path.write_text(yaml.safe_dump(document))
    return path


if __name__ == "__main__":
    write_testbed(Path(sys.argv[1]), int(sys.argv[2]), mixed=len(sys.argv) > 3)

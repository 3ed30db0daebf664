"""Memory that a model takes at least, against what the cgroup allows.

A process beyond its limit is killed without a word, and its successor as well: better a message.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lm_server.cgroup import groups, read
from lm_server.engines.bad_model import BadModel

WEIGHTS: Final = re.compile(r"^(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors$")
UNLIMITED: Final = 2**60  # bytes: version 1 has a number for no limit, too


def check_fits(model: Path, libraries_gb: float, root: Path = Path("/")) -> None:
    """Compare a model's files and its libraries with the memory limit of this process.

    Raises:
        BadModel: it cannot fit; the message has both figures.
    """
    limit = memory_limit(root)
    needed = libraries_gb * 1e9 + weights_bytes(model)
    if limit is not None and needed > limit:
        raise BadModel(
            f"it takes {needed / 1e9:.2f} GB of memory at least, and the limit is "
            f"{limit / 1e9:.2f} GB",
            "raise the memory limit of the container, or serve a smaller model",
        )


def weights_bytes(model: Path) -> int:
    """Return the size of the weights that an engine reads: a file, or a folder's safetensors."""
    if model.is_file():
        return model.stat().st_size
    files = [*model.glob("*.safetensors"), *model.glob("*/*.safetensors")]
    return sum(one.stat().st_size for one in files if WEIGHTS.match(one.name))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the tightest limit of the process's cgroup and its parents; None without one.

    Reads `memory.max` (cgroup v2) and `memory.limit_in_bytes` (v1).
    """
    words = [
        read(folder / "memory.max") or read(folder / "memory.limit_in_bytes")
        for folder in groups("memory", root)
    ]
    limits = [int(word) for word in words if word.isdigit()]
    return min((one for one in limits if one < UNLIMITED), default=None)

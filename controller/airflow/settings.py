"""Settings that Airflow's processes share, from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESULTS: Final = "EDGELM_RESULTS"  # environment variable: the folder of the campaigns' folders


def edgelm_command() -> str:
    """Return the `edgelm` command: it lives in another venv than Airflow."""
    return os.environ.get("EDGELM_COMMAND", "edgelm")


def results_folder() -> Path | None:
    """Return the folder with a folder per campaign, which all workers see; None if nobody has named
    one."""
    given = os.environ.get(RESULTS)
    return Path(given) if given else None

"""Names of campaigns' folders, made from the ids of Airflow's runs."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LENGTH: Final = 100  # of a name, at most
PATTERN: Final = rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LENGTH - 1}}}"

_DIGITS: Final = 8
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]")
_BEGIN: Final = re.compile(r"^[.-]+|^$")  # hidden, the folder above, or an option


def folder_name(run_id: str) -> str:
    """Return the name of the folder of a run's campaign.

    Letters, digits, dots, dashes and underscores are kept, everything else becomes a dash. A name
    that differs from the id, or is cut to 100 characters, ends in 8 hexadecimal digits of the id's
    SHA-256, so that ids that look alike keep apart.
    """
    name = _BEGIN.sub("_", _OTHER.sub("-", run_id))
    if name == run_id and len(name) <= LENGTH:
        return name
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: LENGTH - _DIGITS - 1]}-{digest}"


def folder_of(dag_id: str, run_id: str) -> str:
    """Return the name of the folder of a DAG's run. Runs of two DAGs may have one id, so the DAG's
    comes before it."""
    return folder_name(f"{dag_id}.{run_id}")


def is_folder_name(name: str) -> bool:
    """Return True for a name that :func:`folder_name` can have returned."""
    return re.fullmatch(PATTERN, name) is not None

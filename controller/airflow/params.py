"""Parameters of the DAGs, read from parameters.json: on the path of every parse of a DAG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow.sdk import Param

FILE: Final = Path(__file__).with_name("parameters.json")

_SHOWN: Final = 60  # characters of a key

Schema = dict[str, Any]


def params_of(dag_id: str) -> dict[str, Param]:
    """Return a DAG's parameters, for ``DAG(params=...)``.

    Raises:
        KeyError: the DAG has no entry in parameters.json.
    """
    from airflow.sdk import Param

    found = {}
    for name, schema in parameters()[dag_id].items():
        rest = {
            key: value for key, value in schema.items() if key not in ("default", "description")
        }
        found[name] = Param(schema["default"], schema["description"], schema=rest)
    return found


def unknown_keys(dag_id: str, conf: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key of a run's ``conf`` that is no parameter of the DAG, with the
    closest one and all of them. Airflow itself accepts such keys and ignores them.

    Raises:
        KeyError: the DAG has no entry in parameters.json.
    """
    known = parameters()[dag_id]
    choices = f"it has {', '.join(known)}" if known else "it has none"
    return [
        f"{dag_id} has no parameter {_short(key)}; {_guess(key, known)}{choices}"
        for key in conf
        if key not in known
    ]


@cache
def parameters() -> Mapping[str, Mapping[str, Schema]]:
    """Return DAG id -> name -> JSON schema of every parameter."""
    found: dict[str, dict[str, Schema]] = json.loads(FILE.read_bytes())
    return found


def _guess(key: str, known: Mapping[str, Schema]) -> str:
    wanted = key[:_SHOWN].lower().replace("-", "_")
    near = get_close_matches(wanted, known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _short(key: str) -> str:
    return repr(key if len(key) <= _SHOWN else f"{key[:_SHOWN]}...")

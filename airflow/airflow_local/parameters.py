"""Parameters of the DAGs as JSON schema, with what this edgelm ships as choices. Runs in .venv:
``make airflow-parameters`` writes them to controller/airflow/parameters.json, where DAGs and UI
read them without edgelm's core.

A choice carries the sentence of ``edgelm list``. ``section`` and ``values_display`` are Airflow's:
its form folds a section, and shows a choice by its display.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from controller import strategies
from controller.agents.parameters import APPLY, MODES
from controller.airflow.folders import PATTERN
from controller.airflow.params import FILE
from controller.campaigns.reasoner import OPENAI, REFERENCE
from controller.campaigns.validation import catalog

Schema = dict[str, Any]

INSTEAD: Final = "Instead of the campaign's own"
LIMITS: Final = "Limits"
_SHOWN: Final = 80  # characters of a choice's sentence


def documents() -> dict[str, dict[str, Schema]]:
    """Return DAG id -> name -> schema, in the order of the form."""
    shipped = catalog()
    return {
        "run_campaign": _campaign(shipped),
        "run_epochs": _epochs(shipped),
        "analyse_campaign": {
            "folder": {
                **_text("Folder", "Name of a campaign's folder. Empty: that of the asset's event."),
                "pattern": f"^({PATTERN})?$",
                "default": "",
            },
            "tolerance": _tolerance(),
        },
        "nightly_regression": {},
        "bring_up_testbed": {
            "testbed": _one("Testbed", "Testbed to bring up.", shipped["testbeds"], "paper"),
            "cloud": {
                **_text("Cloud", "Cloud of the workers' clouds.yaml. Empty: given hosts."),
                "pattern": "^([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$",
                "default": "",
            },
            "hosts": {
                **_text("Hosts", "Hosts file on the workers, where there is no cloud."),
                "pattern": r"^(/[^\s]+)?$",
                "default": "",
            },
            "values": {
                **_text("Values", "Cloud file on the workers: image, networks, flavours, zones."),
                "pattern": r"^(/[^\s]+)?$",
                "default": "",
            },
            "tear_down": {
                "title": "Tear down",
                "description": "Take the testbed down instead; somebody is asked first.",
                "type": "boolean",
                "default": False,
            },
            "keep_data": {
                "title": "Keep data",
                "description": "When it is taken down, keep what was stored.",
                "type": "boolean",
                "default": False,
            },
        },
    }


def main() -> None:
    """Write controller/airflow/parameters.json."""
    FILE.write_text(text())


def text() -> str:
    """Return the content of controller/airflow/parameters.json."""
    return json.dumps(documents(), indent=1, ensure_ascii=False) + "\n"


def _campaign(shipped: Mapping[str, Mapping[str, str]]) -> dict[str, Schema]:
    targets = {
        "twin": "digital twin: virtual time, this machine alone",
        "emulated": "services on a testbed whose engines take the profile's times",
        "live": "a testbed that serves real models",
    }
    chosen = strategies.STRATEGIES
    return {
        "campaign": _one("Campaign", "Campaign to run.", shipped["campaigns"], "smoke"),
        "target": _one("Target", "Where runs take place.", targets, "twin"),
        "strategies": {
            "title": "Strategies",
            "description": "Strategies to compare. Empty: the campaign's.",
            "type": ["array", "null"],
            "items": {"type": "string", "enum": list(chosen)},
            "uniqueItems": True,
            "examples": list(chosen),
            "values_display": _displays({name: one.title for name, one in chosen.items()}),
            "default": [],
            "section": INSTEAD,
        },
        "seeds": _whole("Seeds", "Number of seeds; N runs seeds 0 to N-1.", 1, 1000),
        "epochs": _whole("Epochs", "Epochs of a run.", 1, 1000),
        "testbed": _perhaps("Testbed", "Testbed of the runs.", shipped["testbeds"]),
        "workload": _perhaps("Workload", "Workload of the runs.", shipped["workloads"]),
        "reasoner": _perhaps("Reasoner", "Who answers the agents.", _reasoners()),
        "load": {
            **_number(
                "Load",
                "Load factor; 0.5 is half of the workload's. Empty: the campaign's.",
                INSTEAD,
            ),
            "minimum": 0.01,
            "maximum": 10,
        },
        "rows": {
            "title": "Rows",
            "description": "Tasks that share the runs, at most: rows of Airflow's grid.",
            "type": "integer",
            "minimum": 1,
            "maximum": 64,
            "default": 16,
            "section": LIMITS,
        },
        **_budget(),
        "time_scale": _time_scale(),
    }


def _epochs(shipped: Mapping[str, Mapping[str, str]]) -> dict[str, Schema]:
    titles = {name: one.title for name, one in strategies.STRATEGIES.items() if not one.diagnostic}
    engines = {"live": "real models", "emulated": "engines that take the profile's times"}
    modes = {
        "apply": "agents decide",
        "approve": "a person confirms each policy",
        "advise": "agents are recorded, the incumbent decides",
        "off": "the incumbent alone",
    }
    return {
        "strategy": _one("Strategy", "Strategy that decides.", titles, "SOLVER"),
        "workload": _one("Workload", "Workload to serve.", shipped["workloads"], "paper"),
        "epochs": _whole("Epochs", "Epochs to run.", 1, 1000, 1),
        "seed": {
            "title": "Seed",
            "description": "Seed of the workload. Empty: each run has one of its own.",
            "type": ["integer", "null"],
            "minimum": 0,
            "default": None,
        },
        "engines": _one("Engines", "What the testbed's nodes run.", engines, "live"),
        "reasoner": _one("Reasoner", "Who answers the agents.", _reasoners(), REFERENCE),
        "mode": _one("Mode", "Mode of the agents.", {m: modes[m] for m in MODES}, APPLY),
        **_budget(),
        "time_scale": _time_scale(),
    }


def _budget() -> dict[str, Schema]:
    hours = _number("Hours at most", "Refuse what is estimated to take longer.", LIMITS, "number")
    usd = _number("USD at most", "Refuse what is estimated to cost more.", LIMITS, "number")
    return {
        "hours_at_most": {**hours, "exclusiveMinimum": 0, "default": 24},
        "usd_at_most": {**usd, "minimum": 0, "default": 0},
    }


def _reasoners() -> dict[str, str]:
    return {
        REFERENCE: "an optimiser behind a model's protocol; free",
        OPENAI: "OpenAI's models, at their price; OPENAI_API_KEY must be set",
    }


def _time_scale() -> Schema:
    sentence = "Seconds of a run per real second; with emulated engines only. Empty: 20."
    return {**_number("Time scale", sentence, LIMITS), "minimum": 0.1, "maximum": 1000}


def _tolerance() -> Schema:
    sentence = "Share by which an objective may exceed the last campaign's without being flagged."
    return {
        **_number("Tolerance", sentence, LIMITS, "number"),
        "minimum": 0,
        "maximum": 1,
        "default": 0.02,
    }


def _one(title: str, sentence: str, choices: Mapping[str, str], default: str) -> Schema:
    return {
        **_text(title, sentence),
        "enum": list(choices),
        "values_display": _displays(choices),
        "default": default,
    }


def _perhaps(title: str, sentence: str, choices: Mapping[str, str]) -> Schema:
    return {
        **_text(title, f"{sentence} Empty: the campaign's."),
        "type": ["string", "null"],
        "enum": [None, *choices],
        "values_display": {"null": "the campaign's", **_displays(choices)},
        "default": None,
        "section": INSTEAD,
    }


def _text(title: str, sentence: str) -> Schema:
    return {"title": title, "description": sentence, "type": "string"}


def _number(title: str, sentence: str, section: str, kind: str = "") -> Schema:
    """Return the schema of a number; of one that may be left empty without ``kind``."""
    types = kind or ["number", "null"]
    empty = {} if kind else {"default": None}
    return {"title": title, "description": sentence, "type": types, **empty, "section": section}


def _whole(
    title: str, sentence: str, least: int, most: int | None, default: int | None = None
) -> Schema:
    """Return the schema of a whole number; without a default it may be left empty."""
    own = default is None
    found: Schema = {
        "title": title,
        "description": f"{sentence} Empty: the campaign's." if own else sentence,
        "type": ["integer", "null"] if own else "integer",
        "minimum": least,
        "default": default,
    }
    return (
        found | ({} if most is None else {"maximum": most}) | ({"section": INSTEAD} if own else {})
    )


def _displays(choices: Mapping[str, str]) -> dict[str, str]:
    return {name: _shortened(name, sentence) for name, sentence in choices.items()}


def _shortened(name: str, sentence: str) -> str:
    first = sentence.split(". ")[0].rstrip(".")
    return f"{name}: {first if len(first) <= _SHOWN else first[:_SHOWN].rsplit(' ', 1)[0] + ' …'}"


if __name__ == "__main__":
    main()

"""edgelm's provider for Apache Airflow: connection, operators, trigger, views.

Airflow lives in a venv of its own: nothing here imports edgelm's numerical libraries.
"""

from __future__ import annotations

from typing import Any

from controller import __version__


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's registry wants to know of a provider."""
    return {
        "package-name": "edgelm",
        "name": "edgelm",
        "description": "Campaigns on edgelm's twin and testbeds.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "edgelm",
                "hook-class-name": "controller.airflow.hook.EdgelmHook",
                "hook-name": "edgelm",
            }
        ],
        "extra-links": [
            "controller.airflow.links.ReportLink",
            "controller.airflow.links.StatusLink",
        ],
    }

"""Importers of foreign traces by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controller.workloads.azure import import_azure
from controller.workloads.servegen import import_servegen
from controller.workloads.trace import Trace

IMPORTERS: Final[dict[str, Callable[..., Trace]]] = {
    "azure": import_azure,
    "servegen": import_servegen,
}

__all__ = ["IMPORTERS", "import_azure", "import_servegen"]

"""Importers of foreign traces by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import InputError
from controller.inputs.documents import read_yaml_text
from controller.workloads.azure import import_azure
from controller.workloads.servegen import import_servegen
from controller.workloads.trace import Trace, write_trace

IMPORTERS: Final[dict[str, Callable[..., Trace]]] = {
    "azure": import_azure,
    "servegen": import_servegen,
}


def import_requests(
    kind: str, source: Path, out: Path, options: Sequence[str]
) -> tuple[int, float]:
    """Import a foreign trace into the request file ``out``. ``options``: NAME=VALUE, with YAML
    values.

    Returns:
        The number of requests, and the trace's duration in seconds.

    Raises:
        InputError: unknown importer or option, or a malformed trace.
    """
    if kind not in IMPORTERS:
        choices = ", ".join(IMPORTERS)
        raise InputError("trace import", "no such kind", value=kind, remedy=f"choose {choices}")
    importer = IMPORTERS[kind]
    known = [p.name for p in signature(importer).parameters.values() if p.kind is p.KEYWORD_ONLY]
    given = dict(_option(text, kind, known) for text in options)
    trace = importer(source, **given)
    write_trace(trace, out)
    return len(trace), trace.duration_s


def _option(text: str, kind: str, known: Sequence[str]) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or name not in known:
        raise InputError(
            "--set", f"is no option of the importer {kind}", value=text,
            remedy=f"write NAME=VALUE with one of {', '.join(known)}",
        )  # fmt: skip
    return name, read_yaml_text(f"--set {name}", value)

"""Scaling of a profile's numbers, for sensitivity campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.domain.errors import InputError

Document = dict[str, Any]

LEAST, MOST = 1e-3, 1e3
SWITCH_LOSS = "switch_loss"


def _service(device: str) -> Callable[[Document], Iterator[tuple[Document, str]]]:
    return lambda lm: ((times, "seconds") for times in lm[device].values())


def _start(lm: Document) -> Iterator[tuple[Document, str]]:
    yield lm["life_cycle"], "start_cpu_s"
    yield lm["life_cycle"], "start_gpu_s"


def _stop(lm: Document) -> Iterator[tuple[Document, str]]:
    yield lm["life_cycle"], "stop_s"


def _payload(lm: Document) -> Iterator[tuple[Document, str]]:
    for way in lm["payload"].values():
        yield from ((way, field) for field in way if field not in ("source", "how"))


# Target -> the (block, field) pairs of an LM that it multiplies.
TARGETS: Mapping[str, Callable[[Document], Iterator[tuple[Document, str]]]] = {
    "cpu_service": _service("cpu"),
    "gpu_service": _service("gpu"),
    "start": _start,
    "stop": _stop,
    "payload": _payload,
}


def scale(document: Document, factors: Mapping[str, float]) -> Document:
    """Scale the numbers of a dumped profile in place, record the factors in its name and summary,
    and return it.

    A factor of 1 changes nothing, so that its experiment is the unscaled one. ``start`` and
    ``start.LM4`` together multiply LM4 by both.

    Raises:
        InputError: unknown key, or a factor outside 0.001 to 1000.
    """
    for key in sorted(factors):
        factor = _checked(document, key, factors[key])
        if factor == 1.0:
            continue
        for block, field in list(_fields(document, key)):
            block[field] = _times(block[field], factor)
        document["name"] += f"-{key}-x{factor}"
        document["summary"] += f" Scaled: {key} x {factor:g}."
    return document


def share_cores(document: Document, share: float) -> Document:
    """Give the CPU times of a dumped profile another parallel share in place, by Amdahl's law from
    the first point of each curve, record it in the name and summary, and return it."""

    def relative_s(cores: float) -> float:
        return 1 - share + share / cores

    for lm in document["lms"].values():
        for times in lm["cpu"].values():
            first, first_s = times["cores"][0], times["seconds"][0]
            times["seconds"] = [
                first_s * relative_s(cores) / relative_s(first) for cores in times["cores"]
            ]
    document["name"] += f"-parallel-{share}"
    document["summary"] += f" CPU times with a parallel share of {share:g}."
    return document


def _checked(document: Document, key: str, factor: float) -> float:
    source = f"profile {document['name']}, scaled"
    target, dot, lm = key.partition(".")
    if key != SWITCH_LOSS and (target not in TARGETS or (dot and lm not in document["lms"])):
        raise InputError(
            source,
            "is no number that can be scaled",
            field=key,
            remedy=f"choose from {SWITCH_LOSS}, {', '.join(TARGETS)}, and the latter with an LM, "
            f"such as start.{next(iter(document['lms']))} (LMs: {', '.join(document['lms'])})",
        )
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise InputError(source, "must be a number", field=key, value=factor)
    if not LEAST <= factor <= MOST:
        raise InputError(
            source,
            "is out of bounds",
            field=key,
            value=factor,
            remedy=f"a factor from {LEAST:g} to {MOST:g}",
        )
    return float(factor)


def _fields(document: Document, key: str) -> Iterator[tuple[Document, str]]:
    if key == SWITCH_LOSS:
        yield document[SWITCH_LOSS], "share"
        return
    target, _, only = key.partition(".")
    for name, lm in document["lms"].items():
        if only in ("", name):
            yield from TARGETS[target](lm)


def _times(value: Any, factor: float) -> Any:
    return [one * factor for one in value] if isinstance(value, list) else value * factor

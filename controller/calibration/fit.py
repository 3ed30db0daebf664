"""Fit of all runs: scales of service times, start-ups, and delays of the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.calibration.delays import LINKS, control_s, link_latencies_s, start_ups_s
from controller.calibration.estimates import Estimate, mean, median_of_few, ratio
from controller.calibration.observed import Observed
from controller.calibration.service import Key, Service, services
from controller.domain.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Calibration:
    """Estimates from a set of runs; those with value None are too few to say.

    Args:
        service: (LM, device, hardware) -> observed over expected seconds of service.
        starts: (LM, device) -> seconds from a pod's creation to readiness.
        links: "site", "metro" -> seconds of one way.
        control: seconds from a decision to its coming into force.
    """

    runs: tuple[str, ...]
    origin: str  # in words: which runs, of which target
    service: dict[Key, Estimate]
    starts: dict[tuple[str, str], Estimate]
    links: dict[str, Estimate]
    control: Estimate


def fit(runs: Sequence[Observed]) -> Calibration:
    """Return the estimates from runs of one scenario."""
    scenario = runs[0].scenario
    by_key: dict[Key, list[Service]] = defaultdict(list)
    for run in runs:
        for one in services(run):
            by_key[one.key].append(one)
    control = mean(np.concatenate([control_s(run) for run in runs]))
    assumed = scenario.testbed.network.control_s if control.value is None else control.value
    starts: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for key, seconds in start_ups_s(run, assumed).items():
            starts[key].extend(seconds)
    links = [link_latencies_s(run) for run in runs]
    keys = _keys(scenario)
    return Calibration(
        runs=tuple(run.name for run in runs),
        origin=_origin(runs),
        service={key: _ratio(by_key.get(key, [])) for key in keys},
        starts={pair: median_of_few(np.array(starts.get(pair, []))) for pair in _pairs(keys)},
        links={link: mean(np.concatenate([one[link] for one in links])) for link in LINKS},
        control=control,
    )


def _ratio(found: list[Service]) -> Estimate:
    return ratio(
        np.array([one.observed_s for one in found]), np.array([one.expected_s for one in found])
    )


def _keys(scenario: Scenario) -> list[Key]:
    """Return every LM on every hardware of the testbed that it can run on."""
    found: dict[Key, None] = {}
    for i, lm in enumerate(scenario.testbed.lms):
        for n, node in enumerate(scenario.testbed.nodes):
            if scenario.on_cpu(n, i):
                found[lm.name, "cpu", node.cpu] = None
            if scenario.on_gpu(n, i):
                found[lm.name, "gpu", node.gpu] = None
    return list(found)


def _pairs(keys: list[Key]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((lm, device) for lm, device, _ in keys))


def _origin(runs: Sequence[Observed]) -> str:
    """Return which runs the numbers are from, in words for a file."""
    shown = ", ".join(run.name for run in runs[:8]) + (" and others" if len(runs) > 8 else "")
    targets = ", ".join(sorted({_target(run) for run in runs}))
    return f"{len(runs)} run{'s' * (len(runs) > 1)} ({targets}): {shown}"


def _target(run: Observed) -> str:
    words = {"twin": "on the twin", "emulated": "on emulated engines", "live": "on real engines"}
    scale = f" at {run.time_scale:g} times the speed" if run.time_scale not in (None, 1.0) else ""
    return words.get(run.target, run.target) + scale

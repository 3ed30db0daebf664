"""A measurement as an LM's blocks of a profile."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from controller.inputs.documents import parse
from controller.inputs.profile import ProfileFile
from controller.inputs.speeds import QUANTITIES
from controller.profiling.measure import BUSY
from controller.profiling.points import Measured, Measurement


def measured_profile(base: ProfileFile, found: Measurement, name: str) -> ProfileFile:
    """Return ``base`` with what was measured of one LM: seconds, work, batching, life cycle, RAM.
    Payload, GPU memory, other hardware and other LMs stay."""
    document: dict[str, Any] = base.model_dump(mode="json")
    setup, source = found.setup, "estimated" if found.emulated else "measured"
    entry = document["lms"][setup.lm]
    by_cores = {
        one.cores: median(one.seconds)
        for one in sorted(found.points, key=lambda one: one.cores)
        if one.prompts == 1 and one.size == setup.reference
    }
    most = max(by_cores)

    def block(how: str, **numbers: Any) -> dict[str, Any]:
        return {"source": source, "how": f"{how} {_circumstances(found)}", **numbers}

    how = f"Median of {setup.repeats} requests of one reference prompt, from the batch's begin "
    how += "until its result was on disk."
    if setup.device == "cpu":
        seconds = [_rounded(one) for one in by_cores.values()]
        times = {"cores": [float(one) for one in by_cores], "seconds": seconds}
        entry["cpu"][setup.hardware] = block(how, **times)
    else:
        entry["gpu"][setup.hardware] = block(how, gpus=[1], seconds=[_rounded(by_cores[most])])
    factors = _batch_factors([one for one in found.points if _is_batch(one, found, most)])
    if len(factors) > 1:
        entry["batching"][setup.device] = block(
            f"Medians on {most} cores, linear between the sizes measured.", factors=factors
        )
    shares = _shares([one for one in found.points if one.prompts == 1 and one.cores == most], found)
    entry["work"] = block(f"Least squares over sizes of a prompt on {most} cores.", **shares)
    start = median(one.start_s for one in found.lives)
    entry["life_cycle"] |= block(
        f"Median of {len(found.lives)} starts from process to readiness, and from TERM to the end. "
        f"{_phases(found)} The other device's start is {base.name}'s.",
        stop_s=_rounded(median(one.stop_s for one in found.lives)),
    ) | {f"start_{setup.device}_s": _rounded(start)}
    entry["footprint"]["ram"] = block(
        "Largest resident memory of front and worker together, over all points.",
        gb=_rounded(max(one.peak_ram_gb for one in found.lives)),
    )
    document["name"] = name
    what = "emulated" if found.emulated else "measured"
    document["summary"] = f"{setup.lm} {what} on {setup.hardware}; the rest is {base.name}'s."
    return parse(ProfileFile, f"profile {name}, {what}", document)


def _is_batch(one: Measured, found: Measurement, cores: int) -> bool:
    return one.size == found.setup.reference and one.cores == cores and one.batches == 1


def _batch_factors(points: list[Measured]) -> list[float]:
    """Return factors of a batch of 1, 2, ... prompts: as measured, but never falling, and never
    more than the prompts one by one, which a profile refuses."""
    times = {one.prompts: median(one.seconds) for one in points}
    sizes = sorted(times)
    every = np.arange(1, sizes[-1] + 1)
    factors = np.interp(every, sizes, [times[size] / times[1] for size in sizes])
    return [_rounded(one) for one in np.minimum(np.maximum.accumulate(factors), every)]


def _shares(points: list[Measured], found: Measurement) -> dict[str, float]:
    """Return the shares of a reference prompt's time, none negative."""
    reference = np.array(found.setup.reference)
    used = np.flatnonzero(reference > 0)
    sizes = np.array([one.size for one in points])[:, used] / reference[used]
    rows = np.column_stack([np.ones(len(points)), sizes])
    found_s, _ = nnls(rows, np.array([median(one.seconds) for one in points]))
    shares = found_s / found_s.sum()
    named = {"fixed": float(shares[0]), **dict.fromkeys(QUANTITIES, 0.0)}
    named |= {QUANTITIES[k]: float(share) for k, share in zip(used, shares[1:], strict=True)}
    return named


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _circumstances(found: Measurement) -> str:
    setup = found.setup
    versions = ", ".join(f"{name} {version}" for name, version in setup.versions.items())
    if found.emulated:
        return "Emulated engine: the times of its file, no measurement of hardware."
    waited = max((one.waited or 0.0 for one in found.points), default=0.0)
    busy = f" Threads waited for a core up to {waited:.0%} of their time." if waited > BUSY else ""
    return f"By edgelm profile on {setup.hardware}, engine {setup.engine}; {versions}.{busy}"


def _phases(found: Measurement) -> str:
    names = sorted({name for one in found.lives for name in one.phases_s})
    parts = [
        f"{name} {median(one.phases_s.get(name, 0.0) for one in found.lives):.3g} s"
        for name in names
    ]
    return f"Of it {', '.join(parts)}." if parts else "The engine names no phases."
